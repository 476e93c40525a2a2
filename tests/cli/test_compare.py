"""The command ``compare`` on caches on disk."""

import json

import pytest
import yaml

import latentood as lo
from tests.cli.test_commands import run
from tests.extraction.run.test_runner import pipeline
from tests.test_workflow_comparing import saved_weights


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two seeds of one model, and another one without one of the OOD splits."""
    folder = tmp_path_factory.mktemp("compared")
    same = saved_weights(folder)
    more = {"target": "latentood.data.Uniform", "args": {"length": 25, "shape": [3, 8, 8]}}
    raw = pipeline().model_dump(mode="json")
    made = {
        "a0": raw | {"model": same, "splits": raw["splits"] | {"near": {"role": "near", **more}}},
        "b": raw | {"seed": 2},
    }
    made["a1"] = made["a0"] | {"seed": 1}
    for name, changed in made.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(changed))
        lo.extract(folder / f"{name}.yaml", folder / f"{name}.zarr")
    return [folder / f"{name}.zarr" for name in ("a0", "b", "a1")]


def test_models_seeds_and_what_is_paired_are_printed(capsys, stores, tmp_path):
    asked = ["compare", *stores, "--detectors", "larem,msp", "--out", tmp_path / "out"]
    status, out, err = run(capsys, *asked)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0] == "b less a0, mean over OOD splits [95% interval]"
    assert lines[1].split() == [
        "detector", "layer", "metric", "of", "a0", "b", "difference", "p",
    ]  # fmt: skip
    assert "a0: a0 (seed 0), a1 (seed 1) repeat one extraction" in lines
    assert "split far (far) of b: paired, the same rows" in lines
    assert "left out of a0, not in all stores: near" in lines
    spread = lines[lines.index("predictions for the ID split:") - 1]
    assert spread.startswith("a0 ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.csv", "compare.json"}


def test_the_comparison_as_json(capsys, stores, tmp_path):
    asked = ["compare", *stores, "--detectors", "larem", "--layers", "conv2", "--json"]
    status, out, err = run(capsys, *asked)
    assert status == 0, err
    document = json.loads(out)
    assert {line["layer"] for line in document["lines"]} == {"mc.entropy/conv2"}
    seeded = [line for line in document["lines"] if line["model"] == "a0"]
    assert all(len(line["seeds"]) == 2 and line["seed_sd"] >= 0 for line in seeded)


def test_a_difference_that_is_no_noise_is_marked(capsys, monkeypatch):
    from latentood import workflows
    from tests.test_workflow_comparing import compare, store

    compared = compare(store(), store(seed=1, shift=0.1), store(seed=1, changed=["noise"]))
    monkeypatch.setattr(workflows, "compare", lambda *args, **options: compared)
    status, out, _ = run(capsys, "compare", "a", "b", "c", "--detectors", "knn,msp")
    assert status == 0
    other = out.index("store #3 less store #1, mean over OOD splits [95% interval]")
    parts = [part.splitlines() for part in (out[:other], out[other:])]
    moved, apart = ([line for line in part if line.startswith("knn ")] for part in parts)
    assert len(moved) == len(apart) == 5  # AUROC near, far and mean, FPR95 of both kinds
    assert all("] *" in line for line in moved if "AUROC" in line)
    assert [line.split()[3] for line in apart if "~" in line] == ["mean", "mean", "mean", "far"]
    assert not any("*" in line for line in apart)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "compare: must be given two stores or more, got 1"),
        (["no.zarr"], "no.zarr"),
        (["a0", "--detectors", "knnn"], "no detector named 'knnn'"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, stores, options, message):
    options = [stores[0] if one == "a0" else one for one in options]
    status, out, err = run(capsys, "compare", stores[0], *options)
    assert (status, out) == (1, "")
    assert err.strip().startswith("error: ")
    assert message in err
    assert err.strip().count("\n") == 0
