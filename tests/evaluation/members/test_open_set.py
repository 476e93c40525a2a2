"""Open-set metrics against their definitions, one detection at a time, and by hand."""

from dataclasses import asdict

import numpy as np
import pytest

from latentood.errors import DataError
from latentood.evaluation.members.boxes import Detections, Objects
from latentood.evaluation.members.open_set import open_set
from tests.evaluation.members.scenes import as_boxes, scene
from tests.references import members as slow

HERE, THERE, AWAY, FAR = [0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4]


@pytest.mark.parametrize(("iou", "recall"), [(0.5, 0.8), (0.3, 0.5)])
def test_metrics_equal_their_definitions_on_random_scenes(iou, recall):
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(300):
        images = [scene(rng) for _ in range(rng.integers(1, 5))]
        given, there = zip(*(as_boxes(*image) for image in images), strict=True)
        values = asdict(open_set(given, there, iou=iou, recall=recall))
        expected = slow.open_set(images, iou, recall)
        assert values == pytest.approx(expected, abs=1e-12, nan_ok=True)
        errors += expected["aose"] > 0 and expected["wilderness_impact"] > 0
    assert errors > 30


def test_an_example_by_hand():
    objects = Objects([HERE, THERE, AWAY], [1, 1, 0], [0, 0, 1])
    detections = Detections(
        [HERE, AWAY, THERE, FAR, AWAY, FAR, AWAY],
        [1, 1, 1, 1, 2, 2, 2],
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
        [False, False, False, False, False, True, True],
    )
    values = open_set([detections], [objects], recall=1.0)
    # class 1 reaches recall 1 at its third detection: two right ones, one of the unknown object
    assert values.wilderness_impact == 1 / 2
    assert (values.aose, values.nose, values.n_unknown) == (2, 2.0, 1)
    assert (values.precision_unknown, values.recall_unknown) == (0.5, 1.0)
    assert values.ap_unknown == 0.5


def test_marking_detections_as_unknown_lowers_the_open_set_error_and_raises_recall():
    objects = [Objects([HERE, THERE], [1, 1], [0, 1])] * 3
    blind = [Detections([HERE, THERE], [1, 1], [0.9, 0.95], [False, False])] * 3
    aware = [Detections([HERE, THERE], [1, 1], [0.9, 0.95], [False, True])] * 3
    before, after = open_set(blind, objects, recall=1.0), open_set(aware, objects, recall=1.0)
    assert (before.aose, before.recall_unknown, before.ap_unknown) == (3, 0.0, 0.0)
    assert (after.aose, after.recall_unknown, after.ap_unknown) == (0, 1.0, 1.0)
    assert before.wilderness_impact == 1  # three wrong ones come before three right ones
    assert after.wilderness_impact == 0


def test_a_second_detection_of_an_unknown_object_is_false():
    objects = [Objects([HERE], [0], [1])]
    twice = Detections([HERE, HERE], [1, 1], [0.9, 0.8], [True, True])
    values = open_set([twice], objects)
    assert (values.precision_unknown, values.recall_unknown, values.ap_unknown) == (0.5, 1.0, 1.0)


def test_detections_of_ignored_objects_are_not_counted():
    objects = [Objects([HERE, THERE], [1, 0], [255, 1])]
    given = Detections([HERE, HERE, THERE], [1, 1, 1], [0.9, 0.8, 0.7], [True, False, True])
    values = open_set([given], objects)
    assert (values.precision_unknown, values.aose, values.ap_unknown) == (1.0, 0, 1.0)


def test_without_unknown_objects_there_is_nothing_to_count():
    values = open_set([], [])
    assert np.isnan([values.nose, values.recall_unknown, values.ap_unknown]).all()
    given = [Detections([HERE], [1], [0.9], [True])]
    values = open_set(given, [Objects([], [], [])])
    assert values.precision_unknown == 0
    assert np.isnan([values.wilderness_impact, values.recall_unknown]).all()


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="of the same images, got 1 and 0"):
        open_set([Detections([], [], [], [])], [])
    with pytest.raises(DataError, match=r"recall must be in \(0, 1\], got 80"):
        open_set([], [], recall=80)
    with pytest.raises(DataError, match=r"iou must be in \(0, 1\], got 50"):
        open_set([Detections([], [], [], [])], [Objects([], [], [])], iou=50)
