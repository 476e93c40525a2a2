"""Boxes matched to objects, against a loop over pairs."""

import numpy as np
import pytest
import torch

from latentood.errors import DataError
from latentood.evaluation.members.boxes import Detections, Objects, match_boxes
from tests.evaluation.members.scenes import as_boxes, scene
from tests.references import members as slow


@pytest.mark.parametrize("least", [0.25, 0.5, 1.0])
def test_boxes_are_of_the_object_they_overlap_most(least):
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        detections, objects = scene(rng)
        expected = slow.match_boxes([box for box, *_ in detections], objects, least)
        given, there = as_boxes(detections, objects)
        assert match_boxes(given.xyxy, there, least).tolist() == expected
        values += expected
    assert {0, 1, 255} == set(values)


def test_of_equal_overlaps_the_first_object_is_taken():
    both = [[0, 0, 4, 4], [0, 0, 4, 4]]
    assert match_boxes([[0, 0, 4, 4]], Objects(both, [7, 8], [1, 0])).tolist() == [1]
    assert match_boxes([[0, 0, 4, 4]], Objects(both, [7, 8], [0, 1])).tolist() == [0]
    twice = match_boxes([[0, 0, 4, 4], [0, 0, 4, 2]], Objects(both[:1], [7], [1]))
    assert twice.tolist() == [1, 1]
    assert twice.dtype == np.uint8


def test_tensors_and_images_without_boxes_are_read():
    there = Objects(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([3]), torch.tensor([1]))
    assert match_boxes(torch.tensor([[0.0, 0, 4, 4]]), there).tolist() == [1]
    assert match_boxes(torch.zeros(0, 4), there).tolist() == []
    assert match_boxes([], there).tolist() == []
    assert match_boxes([[0, 0, 4, 4]], Objects([], [], [])).tolist() == [255]
    assert match_boxes([[1, 1, 1, 1]], Objects([[1, 1, 1, 1]], [0], [1])).tolist() == [255]


def test_wrong_boxes_are_refused():
    with pytest.raises(DataError, match=r"objects: xyxy must be \(n, 4\) .* got .*'label': \(2,\)"):
        Objects([[0, 0, 1, 1]], [1, 2], [0])
    with pytest.raises(DataError, match=r"detections: xyxy must be \(n, 4\)"):
        Detections([0, 0, 1, 1], [1], [0.5], [False])
    with pytest.raises(DataError, match=r"ood must be 0 \(known\), 1 \(unknown\) or 255 .* got 2"):
        Objects([[0, 0, 1, 1]], [1], [2])
    with pytest.raises(DataError, match="confidence must be finite, got nan"):
        Detections([[0, 0, 1, 1]], [1], [np.nan], [False])
    for iou in (0, 1.5):
        with pytest.raises(DataError, match=r"iou must be in \(0, 1\], got"):
            match_boxes([], Objects([], [], []), iou)
