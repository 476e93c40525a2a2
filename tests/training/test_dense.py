"""Segmenters and object detectors are trained by the same command, and mistakes in them named."""

import json

import pytest
import torch

import latentood as lo
from latentood.errors import DataError, ModelError, UnknownName
from latentood.extraction.model.weights import load_weights
from latentood.training import checkpoints
from latentood.training.job import prepare
from latentood.training.loop import Run
from tests.training import scenes
from tests.training.test_loop import history, same, weights

SCENES = "tests.training.scenes"
MODELS = {"masks": f"{SCENES}.Segmenter", "boxes": f"{SCENES}.detector"}
OBJECTIVES = {"masks": "pixel_cross_entropy", "boxes": "own_loss"}
FLIP = {"target": "torchvision.transforms.v2.RandomHorizontalFlip"}


def pipeline(kind, *, model=None, train=None, val=None, data=None, **training):
    target = f"{SCENES}.Scenes"
    raw = {
        "name": kind,
        "model": model or {"target": MODELS[kind]},
        "splits": {
            "train": {
                "role": "fit", "target": data or target,
                "args": {"kind": kind, "rows": 8, **(train or {})},
            },
            "val": {
                "role": "val", "target": target,
                "args": {"kind": kind, "rows": 4, "seed": 1, **(val or {})},
            },
        },
        "extract": {"device": "cpu"},
        "training": {
            "objective": OBJECTIVES[kind],
            "optimiser": {"target": "torch.optim.Adam", "args": {"lr": 0.02}},
            "epochs": 2,
            "batch_size": 3,
            **training,
        },
    }  # fmt: skip
    return lo.parse_pipeline(raw)


def test_a_segmenter_learns_and_the_best_epoch_is_kept(tmp_path):
    done = lo.train(pipeline("masks", epochs=8, transform=[FLIP]), tmp_path)
    lines = history(tmp_path)
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    assert set(lines[0]) == {"epoch", "lr", "loss", "val_miou", "val_accuracy"}
    assert done.best == max(lines, key=lambda line: (line["val_miou"], line["val_accuracy"]))
    assert done.best["val_miou"] > 0.8
    assert done.statistics is None


def test_a_detector_learns_and_its_average_precision_is_measured(tmp_path):
    adam = {"target": "torch.optim.Adam", "args": {"lr": 0.003}}
    options = {"train": {"rows": 16}, "batch_size": 2, "epochs": 7, "transform": [FLIP]}
    done = lo.train(pipeline("boxes", optimiser=adam, **options), tmp_path)
    lines = history(tmp_path)
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert set(lines[0]) == {"epoch", "lr", "loss", "val_ap50"}
    assert done.best["val_ap50"] == max(line["val_ap50"] for line in lines) > 0.9


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_a_stopped_training_ends_with_the_bits_of_one_that_was_not(tmp_path, kind):
    given = pipeline(kind, train={"rows": 6}, transform=[FLIP], ema=0.5)
    whole = lo.train(given, tmp_path / "whole")
    for stop in (1, 2):  # within an epoch, and between its last step and its end
        run = Run(job := prepare(given), tmp_path / "parts", lambda *_: None)
        (tmp_path / "parts").mkdir(exist_ok=True)
        if stop > 1:
            file = tmp_path / "parts" / checkpoints.FILE
            run.restore(checkpoints.load(file, identity=job.identity))
        run.go(lambda run=run, stop=stop: run.step >= stop)
        torch.rand(3)
    done = lo.train(given, tmp_path / "parts")
    assert done.computed == whole.steps - 2
    for name in ("last", "weights"):
        assert same(weights(tmp_path / "parts", name), weights(tmp_path / "whole", name))
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    again = scenes.Segmenter() if kind == "masks" else scenes.detector()
    load_weights(again, done.weights)
    assert same(dict(again.state_dict()), weights(tmp_path / "whole", "weights"))


def test_images_and_masks_are_flipped_together():
    train = prepare(pipeline("masks", transform=[{**FLIP, "args": {"p": 1}}])).train
    image, mask = train[0]
    before = scenes.Scenes(rows=8)[0]
    assert image.equal(before[0].flip(2))
    assert mask.equal(before[1].flip(1).long())


def test_a_run_on_other_masks_is_another_run():
    identities = [
        prepare(pipeline("masks", train=train)).identity for train in ({}, {}, {"seed": 9})
    ]
    assert identities[0] == identities[1]
    assert identities[0]["labels"] != identities[2]["labels"]


BAD = f"{SCENES}.BadMask"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"data": BAD, "train": {"label": 7}, "classes": 3}, DataError,
            r"split 'train': labels of pixels must be from 0 to 2, or 255 to ignore, got 7 in row",
        ),
        (
            {"data": BAD, "train": {"size": 9}}, DataError,
            r"split 'train': a mask must have the size of its image, \(16, 16\), got \(9, 16\) in "
            r"row 3 \(3\); give",
        ),
        (
            {"train": {"classes": [2]}}, DataError,
            "every class from 0 to 2 must have rows to train on, got none of class 1; correct the "
            "labels, or set training.classes: 3",
        ),
        ({"val": {"change": -1}}, DataError, r"split 'val': a mask must be \(H, W\).* in row 3"),
        (
            {"model": {"target": MODELS["masks"], "args": {"softmax": True}}}, ModelError,
            "must give logits, got probabilities",
        ),
        (
            {"model": {"target": MODELS["masks"], "args": {"classes": 4}}}, ModelError,
            r"must give \(B, 3, H, W\), one channel for each class, got \(2, 4, 16, 16\)",
        ),
        (
            {"model": {"target": f"{SCENES}.Silent"}}, ModelError,
            r"must give logits \(B, C, H, W\).* got NoneType",
        ),
        (
            {"transform": [{"target": "torchvision.transforms.CenterCrop", "args": {"size": 8}}]},
            DataError, "transforms of images with masks or boxes must take and give both, got",
        ),
        ({"splits": {"train": "nowhere"}}, UnknownName, "nowhere"),
    ],
    ids=["label", "size", "no rows", "val", "softmax", "channels", "output", "transform", "split"],
)  # fmt: skip
def test_a_mistake_with_masks_is_named_before_the_first_step(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        lo.train(pipeline("masks", **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"train": {"change": {"labels": torch.tensor([5])}}, "classes": 3}, DataError,
            r"split 'train': labels of boxes must be from 1 to 2 \(0 is the background\), got 5 in "
            "row 3",
        ),
        (
            {"train": {"change": {"labels": torch.tensor([1, 2])}}}, DataError,
            r"number of a class for each of 1 boxes, got \(2,\) int64 in row 3",
        ),
        (
            {"train": {"change": {"boxes": torch.tensor([[3.0, 3, 3, 9]])}}}, DataError,
            r"x1 < x2 and y1 < y2, got \[3.0, 3.0, 3.0, 9.0\] in row 3",
        ),
        ({"train": {"classes": [2]}}, DataError, "class from 1 to 2 must have rows.*of class 1;"),
        (
            {"model": {"target": MODELS["boxes"], "args": {"classes": 2}}}, ModelError,
            "the network must take labels up to 2, got IndexError: Target 2 is out of bounds",
        ),
        (
            {"model": {"target": f"{SCENES}.Silent"}}, ModelError,
            "must give boxes, labels and scores of each image in eval mode, got NoneType",
        ),
        (
            {"val": {"rows": 1, "classes": [0]}, "objective": {"name": "own_loss"}}, DataError,
            "split 'val': labels of boxes must be from 1 to 2",
        ),
    ],
    ids=["label", "lengths", "area", "no rows", "classes", "detections", "val"],
)  # fmt: skip
def test_a_mistake_with_boxes_is_named_before_the_first_step(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        lo.train(pipeline("boxes", **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_without_rows_is_a_warning_where_the_classes_are_stated(caplog):
    job = prepare(pipeline("masks", train={"classes": [2]}, classes=3))
    assert job.network.head.classes == 3
    assert "class 1 has no rows" in caplog.text


def test_a_split_without_any_object_is_refused(monkeypatch):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    image = torch.rand(3, 16, 16)
    monkeypatch.setattr(scenes.Scenes, "__getitem__", lambda self, row: (image, empty))
    with pytest.raises(DataError, match="some target must have a label that counts, got none in 8"):
        prepare(pipeline("boxes"))


def test_the_network_is_as_it_was_after_it_was_tried():
    torch.manual_seed(0)
    fresh = scenes.detector().state_dict()
    tried = prepare(pipeline("boxes")).network.classifier.state_dict()
    assert same(dict(fresh), dict(tried))


def test_statistics_are_those_of_the_best_weights(tmp_path):
    from tests.training.test_loop import pipeline as points

    done = lo.train(points(epochs=3), tmp_path)
    content = json.loads(done.statistics.read_text())
    best = done.best
    right = content["rows"]["right"]
    assert content["epoch"] == best["epoch"]
    assert right / (right + content["rows"]["wrong"]) == best["val_accuracy"]
    edges = torch.tensor(content["probability"]["edges"])
    counts = torch.tensor(content["probability"]["right"])
    middles = (edges[1:] + edges[:-1]) / 2
    assert float((middles * counts).sum() / right) == pytest.approx(
        best["val_probability_right"], abs=0.01
    )
