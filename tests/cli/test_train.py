"""The command that trains: a network, or a head on cached features."""

import json

import pytest
import yaml

from tests.cli.test_commands import run
from tests.training.test_loop import NETS, pipeline


@pytest.fixture
def file(tmp_path):
    far = {"role": "far", "target": f"{NETS}.Points", "args": {"labelled": False}}
    known = {"role": "id", "target": f"{NETS}.Points", "args": {"seed": 2}}
    raw = pipeline(
        objective={"name": "evidential", "evidence": "exp"},
        splits={"far": far, "id": known},
        epochs=2,
    )
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(raw.model_dump(mode="json")))
    return path


def test_it_prints_the_best_epoch_and_the_next_command(capsys, file, tmp_path):
    status, out, _ = run(capsys, "train", file, "--out", tmp_path / "r", "--tracking", "none")
    assert status == 0
    assert "val_accuracy:" in out
    assert f"--set model.weights={tmp_path}/r/weights.safetensors" in " ".join(out.split())


def test_a_head_is_trained_from_a_cache_and_scored(capsys, file, tmp_path):
    store = tmp_path / "c.zarr"
    assert run(capsys, "extract", file, "--store", store)[0] == 0
    asked = ("train", file, "--from", store, "--name", "edl", "--tracking", "none")
    status, out, _ = run(capsys, *asked)
    assert status == 0
    assert "added:        dirichlet/edl" in out
    assert out.rstrip().endswith(f"next:         latentood score {store}")
    status, out, _ = run(capsys, *asked, "--json")
    assert json.loads(out)["kept"]["computed"] == {"far": 0, "id": 0, "train": 0, "val": 0}
    status, out, _ = run(capsys, "inspect", store, "--json")
    assert json.loads(out)["heads"] == ["edl"]
    arrays = [one["key"] for one in json.loads(out)["splits"]["far"]["arrays"]]
    assert arrays[-1] == "dirichlet/edl"
    scored = ("score", store, "--detectors", "vacuity", "--tracking", "none", "--json")
    status, out, _ = run(capsys, *scored)
    assert status == 0
    assert "dirichlet/edl" in out


def test_a_folder_or_a_cache_must_be_given(capsys, file):
    status, _, err = run(capsys, "train", file)
    assert status == 2
    assert "give a folder, or a cache with --from" in " ".join(err.replace("│", " ").split())


def test_a_layer_that_is_not_there_is_one_line(capsys, file, tmp_path):
    store = tmp_path / "c.zarr"
    run(capsys, "extract", file, "--store", store)
    status, _, err = run(capsys, "train", file, "--from", store, "--layer", "layer9")
    assert status == 1
    assert err.strip().startswith("error: train: needs 'features/layer9', but train has")
    assert len(err.strip().splitlines()) == 1
