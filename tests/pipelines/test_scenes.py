"""The scenes of digits from training to scores of images, cells and boxes, in a short run."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import latentood as lo
from latentood.cli import main

PIPELINES = Path(__file__).parents[2] / "pipelines"
SHORT = {
    "cell": ["cells.sample={fit: 32, val: 32}", "model.args.widths=[8, 16, 32]"],
    # So little training finds few boxes of objects.
    "box": ["boxes.score_threshold=0.0", "boxes.max=8", "splits.train.ood={iou: 0.01}"],
}
FILES = {"cell": "scenes_unet.yaml", "box": "scenes_fasterrcnn.yaml"}
DETECTORS = "msp,energy,mahalanobis,larem"


def overrides(unit, folder):
    few = {"train": 24, "val": 8, "id_test": 6, "mixed": 8, "blob": 4}
    few |= {"unknown": 4} if unit == "box" else {}
    rows = [f"splits.{name}.args.length={count}" for name, count in few.items()]
    short = ["training.epochs=1", "training.batch_size=4", "monte_carlo.passes=4", *SHORT[unit]]
    return [*rows, *short]


@pytest.fixture(scope="module", params=FILES)
def scenes(request, tmp_path_factory):
    """Unit, folder and the overrides of a run that trained and extracted."""
    unit, folder = request.param, tmp_path_factory.mktemp(request.param)
    pipeline, asked = PIPELINES / FILES[unit], overrides(unit, folder)
    trained = lo.train(pipeline, folder / "run", overrides=asked, tracking="none", device="cpu")
    asked.append(f"model.weights={trained.weights}")
    lo.extract(pipeline, folder / "c.zarr", overrides=asked, device="cpu")
    return unit, folder, asked


def test_one_cache_scores_images_and_their_members(scenes):
    unit, folder, _ = scenes
    cache = lo.open_cache(folder / "c.zarr")
    layer = "dropblock" if unit == "cell" else "backbone.dropblock"
    rows = cache["mixed"]
    width = rows.shape(f"features/{layer}")[1]
    assert rows.shape(f"mc.entropy/{layer}") == (8, width)
    members = "cells" if unit == "cell" else "boxes"
    assert rows.shape(f"{members}.mc.entropy/{layer}")[2] == width
    of_members = lo.score(cache, detectors=DETECTORS, device="cpu")
    assert of_members.unit == unit
    assert {one.request.detector for one in of_members.results} == set(DETECTORS.split(","))
    of_images = lo.score(cache, unit="image", detectors="larem,lared")
    assert of_images.unit == "image"
    assert len(of_images.results[0].scores["mixed"]) == 8
    top = lo.score(cache, detectors="energy", image_score="top3", device="cpu")
    assert top.unit == "image"
    (result,) = top.results
    assert len(result.scores["mixed"]) == 8
    whole = next(one for one in of_members.results if one.request.detector == "energy")
    assert result.scores["mixed"].max() <= whole.scores["mixed"].max()


def test_the_command_line_writes_maps_boxes_and_pictures(scenes, tmp_path, capsys, monkeypatch):
    unit, folder, _ = scenes
    monkeypatch.chdir(tmp_path)
    store, out = str(folder / "c.zarr"), str(tmp_path / "results")
    asked = ["--detectors", "energy", "--maps", "maps", "--out", out, "--tracking", "none"]
    main_of(["score", store, "--unit", unit, *asked, "--json"])
    assert json.loads(capsys.readouterr().out)["unit"] == unit
    assert list(Path("maps").rglob("mixed_*.png"))
    if unit == "cell":
        (path,) = Path("maps").glob("*/mixed.npy")
        maps = np.load(path, mmap_mode="r")
        assert (maps.shape, maps.dtype) == ((8, 64, 64), np.float16)
    else:
        table = pq.read_table("maps/boxes.parquet").to_pydict()
        assert set(table["split"]) >= {"mixed", "id_test"}


def main_of(arguments):
    """Run the program; an exit status that is not 0 is an error."""
    with suppress(SystemExit):  # 0; an error is raised
        main(arguments)
