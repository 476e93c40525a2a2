"""``score --maps`` writes maps or boxes beside the results, and says where."""

import json

import pytest
import yaml

from latentood.report import maps
from tests.cli.test_commands import run
from tests.extraction.members.test_extract_cells import extract, pipeline


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A cache of cells, and the pipeline file that it is from."""
    folder = tmp_path_factory.mktemp("cells")
    wanted = pipeline(monte_carlo=None, layers=("penultimate",))
    extract(folder / "road.zarr", wanted)
    (folder / "road.yaml").write_text(yaml.safe_dump(wanted.model_dump(mode="json")))
    return folder / "road.zarr", folder / "road.yaml"


def test_maps_and_pictures_are_written_and_named(capsys, store, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "PICTURES", 1)
    cache, file = store
    status, out, err = run(
        capsys, "score", cache, "--detectors", "energy", "--maps", tmp_path / "m", "--images", file,
        "--out", tmp_path / "r", "--tracking", "none",
    )  # fmt: skip
    assert status == 0, err
    assert f"maps:     {tmp_path / 'm'}" in out
    assert "components at the threshold of the best pixel F1: street" in out
    assert "metrics are of pixels" in out
    names = {path.name for path in (tmp_path / "m" / "energy_logits").iterdir()}
    assert names == {
        f"{split}{end}" for split in ("id", "street", "far") for end in (".npy", ".json")
    } | {"id_0.png", "street_1.png", "far_0.png"}


def test_json_has_the_folder_and_the_metrics_of_components(capsys, store, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "PICTURES", 0)
    arguments = ("--maps", tmp_path / "m", "--out", tmp_path / "r", "--tracking", "none", "--json")
    status, out, err = run(capsys, "score", store[0], "--detectors", "energy,msp", *arguments)
    assert status == 0, err
    document = json.loads(out)
    assert document["files"]["maps"] == str(tmp_path / "m")
    assert [(one["detector"], one["split"]) for one in document["components"]] == [
        ("energy", "street"), ("msp", "street"),
    ]  # fmt: skip
    assert document["open_set"] == []
    assert (
        document["components"]
        == json.loads((tmp_path / "r" / "results.json").read_text())["components"]
    )


@pytest.mark.parametrize("options", [("--unit", "image"), ("--image-score", "max")])
def test_scores_of_images_have_no_maps_and_nothing_is_scored(capsys, store, tmp_path, options):
    asked = ("--maps", tmp_path / "m", "--out", tmp_path / "r", "--tracking", "none")
    status, _, err = run(capsys, "score", store[0], *options, *asked)
    assert status == 1
    assert "error: maps: scores must be of cells or boxes, got unit image" in err
    assert not list(tmp_path.iterdir())


def test_images_alone_are_wrong_usage(capsys, store):
    status, _, err = run(capsys, "score", store[0], "--images", store[1])
    assert status == 2
    assert "needs --maps DIR" in " ".join(err.split())
