"""Metrics about unknown objects: the threshold, the boxes it marks, the components of pixels."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from latentood.evaluation.members.boxes import Detections
from latentood.evaluation.members.components import Components, compare_components
from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.members.maps import score_maps
from latentood.evaluation.members.open_set import open_set
from latentood.evaluation.members.unknown import components_of, detections_of, open_set_of
from latentood.evaluation.scoring import score_all
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.members.examples import First, box_splits, cell_splits


@pytest.fixture(scope="module")
def boxes():
    return score_all(box_splits(), [First()], unit="box")


@pytest.fixture(scope="module")
def cells():
    return score_all(cell_splits(), [First()], unit="cell")


def truth_of(comparison, split="street"):
    return next(one.truth for one in comparison.splits if one.name == split)


def known(comparison, split):
    return comparison.results[0].scores[split][truth_of(comparison, split).ood == 0]


def test_the_threshold_keeps_95_percent_of_the_id_boxes_of_the_id_split(boxes):
    scores = np.sort(known(boxes, "id_test"))
    threshold = boxes.results[0].open_set["street"]["threshold"]
    assert threshold in scores
    assert (scores <= threshold).mean() >= 0.95
    assert (scores < threshold).mean() < 0.95


def test_the_threshold_does_not_depend_on_the_split_that_is_reported(boxes):
    splits = box_splits()
    street = splits["street"]
    moved = street.rows("boxes.logits").tensor + 5
    rows = {key: street.rows(key) for key in street.keys()}  # noqa: SIM118
    rows["boxes.logits"].tensor = moved
    again = score_all(splits, [First()], unit="box").results[0].open_set["street"]
    before = boxes.results[0].open_set["street"]
    assert again["threshold"] == before["threshold"]
    assert again["recall_unknown"] > before["recall_unknown"]


def test_without_an_id_split_it_comes_from_the_split_to_calibrate_on():
    splits = box_splits(train="fit", calibration="val", street="mixed")
    comparison = score_all(splits, [First()], unit="box")
    assert [split.name for split in comparison.splits] == ["calibration", "street"]
    scores = known(comparison, "calibration")
    threshold = comparison.results[0].open_set["street"]["threshold"]
    assert (scores <= threshold).mean() >= 0.95 > (scores < threshold).mean()


def test_without_any_of_the_two_there_is_no_threshold_and_no_metric():
    comparison = score_all(box_splits(train="fit", street="mixed"), [First()], unit="box")
    assert comparison.results[0].open_set == {}
    assert comparison.results[0].rows


def test_metrics_of_boxes_are_those_of_the_boxes_that_the_threshold_marks(boxes):
    truth, result = truth_of(boxes), boxes.results[0]
    scores, metrics = result.scores["street"], result.open_set["street"]
    detections = []
    for image in range(truth.images):
        own = np.flatnonzero(truth.image == image)
        marked = scores[own] > metrics["threshold"]
        surety = [
            scores[i] if m else truth.boxes.confidence[i] for i, m in zip(own, marked, strict=True)
        ]
        detections.append(
            Detections(truth.boxes.xyxy[own], truth.boxes.predictions[own], surety, marked)
        )
    expected = dataclasses.asdict(open_set(detections, truth.boxes.objects))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert 0 < metrics["recall_unknown"] < 1
    assert metrics["n_unknown"] == sum(int((one.ood == 1).sum()) for one in truth.boxes.objects)
    assert 0 <= metrics["ap_known"] <= metrics["ap50_known"] <= 1
    assert metrics["note"] == ""


def test_a_mark_orders_boxes_by_their_score_and_leaves_the_others_as_they_are(boxes):
    truth, scores = truth_of(boxes), boxes.results[0].scores["street"]
    parts = detections_of(scores, truth.boxes, truth.image, truth.images, float(np.median(scores)))
    assert [len(part.xyxy) for part in parts] == np.bincount(truth.image, minlength=20).tolist()
    unknown = np.concatenate([part.unknown for part in parts])
    confidence = np.concatenate([part.confidence for part in parts])
    np.testing.assert_array_equal(confidence[unknown], scores[unknown])
    np.testing.assert_array_equal(confidence[~unknown], truth.boxes.confidence[~unknown])


def test_without_pycocotools_the_fields_are_null_and_a_note_names_the_extra(boxes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    truth, scores = truth_of(boxes), boxes.results[0].scores["street"]
    metrics = open_set_of(scores, truth.boxes, truth.image, 1e6)
    assert metrics["ap_known"] is metrics["ap50_known"] is None
    assert "pip install 'latentood[boxes]'" in metrics["note"]
    assert metrics["n_unknown"] > 0


def test_components_are_those_at_the_threshold_of_the_best_pixel_f1(cells):
    result, pixels = cells.results[0], truth_of(cells).pixels
    scale = cells.scale(result, "street")
    maps = torch.cat(list(score_maps(result.scores["street"], pixels, scale))).double().numpy()
    masks = pixels.masks.read(0, 11).numpy()
    best = max(
        np.unique(maps[masks != 255]),
        key=lambda t: (f1(maps >= t, masks), t),
    )
    metrics = result.components["street"]
    assert metrics["threshold"] == pytest.approx(scale.offset + scale.width * best, rel=1e-12)
    slow = Components.of(compare_components(*pair, best) for pair in zip(maps, masks, strict=True))
    assert {name: metrics[name] for name in slow.summary()} == pytest.approx(slow.summary())
    assert (metrics["n_true"], metrics["n_predicted"]) == (5, len(slow.ppv))
    assert result.components.keys() == {"street"}
    assert result.open_set == {}


def f1(predicted, masks):
    hits = (predicted & (masks == 1)).sum()
    return 2 * hits / (hits + (predicted & (masks == 0)).sum() + (masks == 1).sum())


def test_the_histogram_of_a_split_is_that_of_its_images(cells):
    result, truth = cells.results[0], truth_of(cells)
    scale = cells.scale(result, "street")
    maps = torch.cat(list(score_maps(result.scores["street"], truth.pixels, scale)))
    whole = ScoreHistogram.of(maps, truth.pixels.masks.read(0, 11))
    again = components_of(result.scores["street"], truth.pixels, scale, whole)
    assert again == result.components["street"]


def test_boxes_without_true_objects_have_no_such_metrics():
    whole = box_splits()
    street = whole["street"]
    kept = {key: street.rows(key) for key in street.keys() if key.unit != "object"}  # noqa: SIM118
    bare = SplitsInMemory(
        {**whole.latents, "street": type(street).from_rows(kept, name="street")}, whole.splits
    )
    assert score_all(bare, [First()], unit="box").results[0].open_set == {}
