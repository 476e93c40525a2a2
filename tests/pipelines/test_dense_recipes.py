"""The recipes of segmenters and detectors train, on little data that is made here."""

import csv

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from latentood.pipeline.schema import load_pipeline
from tests.data.scenes.test_files import annotate
from tests.pipelines.test_recipes import FOLDER, call

MEASURES = {"unet": "val_miou", "fasterrcnn": "val_ap50"}


def trained(capsys, recipe, folder, *overrides):
    """Train a recipe for an epoch; give its history and its weights."""
    settings = [part for one in ("training.epochs=1", *overrides) for part in ("--set", one)]
    call(
        capsys, "train", FOLDER / f"{recipe}.yaml", "--out", folder, *settings,
        "--device", "cpu", "--tracking", "none",
    )  # fmt: skip
    with (folder / "history.csv").open(newline="") as file:
        (epoch,) = csv.DictReader(file)
    return epoch, load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("network", MEASURES)
def test_scenes_of_digits_train(capsys, tmp_path, network):
    short = [f"splits.{name}.args.length=8" for name in ("train", "val")]
    epoch, weights = trained(capsys, f"scenes_{network}", tmp_path, *short)
    assert 0 <= float(epoch[MEASURES[network]]) <= 1
    last = {"unet": "head.weight", "fasterrcnn": "roi_heads.box_predictor.cls_score.weight"}
    assert len(weights[last[network]]) == 9


@pytest.mark.parametrize("network", MEASURES)
def test_unknown_digits_are_in_no_split_that_is_trained_on(network):
    pipeline = load_pipeline(FOLDER / f"scenes_{network}.yaml")
    for name, split in pipeline.splits.items():
        args = split.args
        assert bool(args.get("unknown")) == (name in ("mixed", "unknown"))
        assert not set(args.get("known", ())) & set(args.get("unknown", ()))
    parts = [one.args.get("part", "train") for one in pipeline.splits.values() if one.role != "far"]
    assert parts[:2] == ["train", "val"]
    assert set(parts[2:]) == {"test"}
    tested = [one for one in pipeline.splits.values() if one.args.get("part") == "test"]
    seeds = [one.args.get("seed", 0) for one in tested]
    assert len(set(seeds)) == len(seeds)  # or they would be the same scenes


def test_camvid_trains_on_what_is_known(capsys, tmp_path):
    random = np.random.default_rng(0)
    roots = []
    for split in ("train", "val"):
        roots.append(f"splits.{split}.args.root={tmp_path}")
        for name, shape, above in (
            (f"{split}/a.jpg", (180, 240, 3), 256),
            (f"{split}_labels/a.png", (180, 240), 12),
        ):
            (tmp_path / name).parent.mkdir()
            pixels = random.integers(0, above, shape).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
    epoch, weights = trained(capsys, "camvid_unet", tmp_path / "run", *roots)
    assert 0 <= float(epoch["val_miou"]) <= 1
    assert weights["head.weight"].shape == (9, 8, 1, 1)


def test_held_out_classes_are_ignored_in_training_and_unknown_in_the_test():
    splits = load_pipeline(FOLDER / "camvid_unet.yaml").splits
    known = {9: 255, 10: 255, 11: 255}
    assert [splits[name].args["relabel"] for name in ("train", "val")] == [known, known]
    assert splits["test"].args["relabel"] == {9: 254, 10: 254, 11: 255}
    assert splits["test"].ood.mask_values == [254]
    assert splits["test"].ood.ignore == [255]


def test_bccd_trains_on_images_without_white_cells(capsys, tmp_path):
    annotate(tmp_path, "a", ("RBC", 11, 11, 40, 40), ("Platelets", 2, 2, 9, 9))
    annotate(tmp_path, "b", ("RBC", 11, 11, 20, 20), ("WBC", 30, 5, 60, 44))
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    roots = []
    for split in ("train", "val"):
        (tmp_path / f"ImageSets/Main/{split}.txt").write_text("a\nb\n")
        roots.append(f"splits.{split}.args.root={tmp_path}")
    epoch, weights = trained(capsys, "bccd_fasterrcnn", tmp_path / "run", *roots)
    assert 0 <= float(epoch["val_ap50"]) <= 1
    assert len(weights["roi_heads.box_predictor.cls_score.weight"]) == 3
    splits = load_pipeline(FOLDER / "bccd_fasterrcnn.yaml").splits
    assert [splits[name].args.get("erased") for name in splits] == [["WBC"], ["WBC"], None]
    assert splits["test"].ood.labels == [splits["test"].args["labels"]["WBC"]]
