"""Average precision of known objects by pycocotools, and our own of training beside it."""

import sys

import numpy as np
import pytest
import torch

from latentood.errors import ConfigError, DataError
from latentood.evaluation.members.boxes import Detections, Objects
from latentood.evaluation.members.coco import known_average_precision
from latentood.training.measures import DetectionMeasure

HERE, THERE, AWAY = [0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4]


@pytest.fixture
def _tools():
    pytest.importorskip("pycocotools", reason="needs pycocotools, of the extra [boxes]")


def drawn(seed, images=12):
    """Detections near objects of three classes, with distinct confidences.

    7, 11 and 13 objects: their recalls are no hundredths, whose rounding pycocotools depends on.
    """
    rng = np.random.default_rng(seed)
    every, place = rng.permutation(np.repeat([1, 2, 3], [7, 11, 13])), rng.integers(0, images, 31)
    given, there = [], []
    for image in range(images):
        labels = every[place == image]
        corner = rng.uniform(0, 50, (len(labels), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape)], axis=1)
        there.append(Objects(boxes, labels, np.zeros(len(boxes), int)))
        near = np.concatenate([boxes, boxes[::2]])
        near = near + rng.normal(0, 2, near.shape)
        guesses = np.concatenate([labels, labels[::2]])
        wrong = rng.random(len(guesses)) < 0.2
        guesses = np.where(wrong, rng.integers(1, 4, len(guesses)), guesses)
        given.append(Detections(near, guesses, rng.random(len(near)), np.zeros(len(near), bool)))
    return given, there


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("seed", range(4))
def test_the_measure_of_training_gives_the_same_ap50(seed):
    given, there = drawn(seed)
    measure = DetectionMeasure()
    for detections, objects in zip(given, there, strict=True):
        output = {
            "boxes": torch.as_tensor(detections.xyxy),
            "labels": torch.as_tensor(detections.label),
            "scores": torch.as_tensor(detections.confidence),
        }
        target = {
            "boxes": torch.as_tensor(objects.xyxy), "labels": torch.as_tensor(objects.label)
        }  # fmt: skip
        measure.add(lambda inputs, output=output: [output], None, [target])
    values = known_average_precision(given, there)
    assert 0 < values["ap"] < values["ap50"] < 1
    assert values["ap50"] == pytest.approx(measure.values()["ap50"], abs=1e-12)


@pytest.mark.usefixtures("_tools")
def test_unknown_and_ignored_objects_are_not_known_ones(capsys):
    there = Objects([HERE, THERE, AWAY], [1, 1, 1], [0, 1, 255])
    right = Detections([HERE], [1], [0.5], [False])
    assert known_average_precision([right], [there]) == pytest.approx({"ap": 1.0, "ap50": 1.0})
    of_ignored = Detections([AWAY, HERE], [1, 1], [0.9, 0.5], [False, False])
    assert known_average_precision([of_ignored], [there])["ap50"] == pytest.approx(1)
    of_unknown = Detections([THERE, HERE], [1, 1], [0.9, 0.5], [False, False])
    assert known_average_precision([of_unknown], [there])["ap50"] == pytest.approx(0.5)
    marked = Detections([THERE, HERE], [1, 1], [0.9, 0.5], [True, False])
    assert known_average_precision([marked], [there])["ap50"] == pytest.approx(1)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("_tools")
def test_detections_beyond_a_hundred_and_in_images_without_objects_count():
    there = [Objects([], [], []), Objects([HERE], [1], [0])]
    many = Detections([AWAY] * 150, [1] * 150, np.linspace(0.9, 0.6, 150), [False] * 150)
    one = Detections([HERE], [1], [0.5], [False])
    assert known_average_precision([many, one], there)["ap50"] == pytest.approx(1 / 151)


def test_no_detection_has_no_precision_and_no_object_is_an_error():
    nothing, there = Detections([], [], [], []), Objects([HERE], [1], [0])
    assert known_average_precision([nothing], [there]) == {"ap": 0.0, "ap50": 0.0}
    with pytest.raises(DataError, match="needs known objects, got none"):
        known_average_precision([nothing], [Objects([HERE], [1], [1])])
    with pytest.raises(DataError, match="of the same images, got 0 and 1"):
        known_average_precision([], [there])


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    one = Detections([HERE], [1], [0.5], [False])
    with pytest.raises(ConfigError, match=r"'pycocotools' of the extra \[boxes\]"):
        known_average_precision([one], [Objects([HERE], [1], [0])])
