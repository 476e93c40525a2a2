"""The command ``tune`` on a cache on disk."""

import json

import pytest
import yaml

from latentood.cli import main
from tests.cli.test_commands import run
from tests.extraction.run.test_runner import NETS, pipeline

QUICK = ("--detectors", "knn,larem", "--set", "knn.k=1,5", "--set", "larem.pca=0,2")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    raw = pipeline().model_dump(mode="json")
    images = {"target": f"{NETS}.Images"}
    noise = {"target": "latentood.data.Uniform", "args": {"length": 25, "shape": [3, 8, 8]}}
    raw["splits"]["train"]["args"]["rows"] = 120
    raw["splits"] |= {
        "val": {"role": "val", **images, "args": {"rows": 90, "seed": 5}},
        "odd": {"role": "tune", **noise},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(folder / "small.yaml"), "--store", str(folder / "small.zarr")])
    assert not stop.value.code
    return folder / "small.zarr"


def test_the_choice_is_printed_fixed_and_used(capsys, store, tmp_path):
    asked = ["tune", store, *QUICK, "--nested", "--out", tmp_path, "--tracking", "none"]
    status, out, _ = run(capsys, *asked)
    assert status == 0
    assert "tuning set: odd (split, 25 rows)" in out
    assert "nested: the best of all is" in out
    assert "AUROC on the test splits, scored once, mean over the splits of a role:" in out
    lines = {line.partition(":")[0]: line.partition(":")[2].strip() for line in out.splitlines()}
    assert (tmp_path / "choice.json").exists()
    status, again, _ = run(capsys, *asked)
    assert status == 0
    assert "the choice was there already and stays" in again
    words = lines["score"].split()[1:]
    status, _, err = run(capsys, *words, "--out", tmp_path / "scored", "--tracking", "none")
    assert status == 0, err


def test_the_choice_as_json(capsys, store, tmp_path):
    asked = ["tune", store, *QUICK, "--out", tmp_path, "--tracking", "none", "--json"]
    status, out, _ = run(capsys, *asked, "--search", "random", "--trials", "3")
    assert status == 0
    document = json.loads(out)
    assert set(document["detectors"]) == {"knn", "larem"}
    assert document["request"]["search"] == "random"
    assert document["searched"] is True
    assert document["files"]["results"]["choice"] == str(tmp_path / "choice.json")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--synthetic", "mixup"], ["odd", "synthetic mixup"]),
        (["--hold-out-classes", "1"], ["odd", "held-out classes"]),
        (["--passes", "2,3", "--detectors", "mcd_msp"], ["odd"]),
        (["--layers", "*"], ["odd"]),
    ],
)
def test_options_reach_the_search(capsys, store, tmp_path, options, expected):
    asked = ["--detectors", "knn", *options, "--out", tmp_path, "--tracking", "none", "--json"]
    status, out, err = run(capsys, "tune", store, *asked)
    assert status == 0, err
    assert [one["name"] for one in json.loads(out)["sets"]] == expected


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--detectors", "knnn"], 1, "no detector named 'knnn'"),
        (["--passes", "2,x"], 2, "must be whole numbers with commas"),
        (["--synthetic", "blur"], 1, "no synthetic set named 'blur'"),
        (["--detectors", "max_logit"], 1, "max_logit: must have settings to choose from"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, store, tmp_path, options, status, message):
    asked = [*options, "--out", tmp_path, "--tracking", "none"]
    got, _, err = run(capsys, "tune", store, *asked)
    assert got == status
    assert message in " ".join(err.split())
    assert not (tmp_path / "choice.json").exists()
