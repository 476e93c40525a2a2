"""Metrics of components against their definition with sets of pixels, and by hand."""

from itertools import chain

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_curve

from latentood.errors import DataError
from latentood.evaluation.members.components import (
    THRESHOLDS,
    Components,
    compare_components,
    pixel_f1_threshold,
)
from latentood.evaluation.members.histograms import ScoreHistogram
from tests.references import members as slow


def drawn(rng, height=12, width=14):
    """An image with a few components of either kind that overlap in part."""
    blocks = rng.random((2, height // 2, width // 2)).repeat(2, axis=1).repeat(2, axis=2)
    ood = np.where(blocks[0] < 0.3, 1, 0).astype(np.uint8)
    ood[rng.random(ood.shape) < 0.08] = 255
    return 0.5 * (blocks[0] < 0.3) + blocks[1] + 0.4 * rng.random(ood.shape), ood


@pytest.mark.parametrize("least", [(1, 1), (4, 1), (1, 4), (5, 9)])
def test_components_equal_their_definition(least):
    rng = np.random.default_rng(0)
    images, expected = [], []
    for _ in range(40):
        scores, ood = drawn(rng)
        images.append(
            compare_components(scores, ood, 0.9, min_predicted=least[0], min_true=least[1])
        )
        expected.append(slow.components(scores, ood, 0.9, *least))
        for values, wanted in zip((images[-1].siou, images[-1].ppv), expected[-1], strict=True):
            assert np.sort(values) == pytest.approx(np.sort(wanted), abs=1e-12)
    siou, ppv = (list(chain(*part)) for part in zip(*expected, strict=True))
    assert any(0 < one < 1 for one in siou)
    values = Components.of(images).summary()
    means = {"siou": np.mean(siou), "ppv": np.mean(ppv), "mean_f1": slow.mean_f1(siou, ppv)}
    assert values == pytest.approx(means, abs=1e-12)


def test_a_prediction_that_covers_two_neighbours_is_held_against_neither():
    ood = np.zeros((4, 9), np.uint8)
    ood[1:3, 0:3] = ood[1:3, 5:8] = 1
    scores = np.zeros((4, 9))
    scores[1:3, 0:8] = 1  # both and the 4 pixels between them
    both = compare_components(scores, ood, 1)
    assert both.siou == pytest.approx([6 / 10, 6 / 10])
    assert both.ppv == pytest.approx([12 / 16])
    assert both.f1(np.array([0.5, 0.6, 0.74, 0.75])) == pytest.approx([1, 0, 0, 0])


def test_corners_connect_and_ignored_pixels_cut():
    ood = np.zeros((3, 5), np.uint8)
    ood[0, 0] = ood[1, 1] = 1
    values = compare_components(ood == 1, ood, 1)
    assert (values.siou.tolist(), values.ppv.tolist()) == ([1.0], [1.0])
    scores = np.ones((3, 5))
    ood[:, 2] = 255
    assert compare_components(scores, ood, 1).ppv.tolist() == pytest.approx([2 / 6, 0])


def test_images_without_components_have_no_mean():
    empty = compare_components(np.zeros((3, 3)), np.zeros((3, 3), np.uint8), 1)
    assert np.isnan(list(Components.of([empty]).summary().values())).all()
    missed = compare_components(np.zeros((3, 3)), np.ones((3, 3), np.uint8), 1).summary()
    assert (missed["siou"], missed["mean_f1"]) == (0, 0)
    invented = compare_components(np.ones((3, 3)), np.zeros((3, 3), np.uint8), 1).summary()
    assert (invented["ppv"], invented["mean_f1"]) == (0, 0)


def test_tensors_are_read():
    scores, ood = drawn(np.random.default_rng(1))
    one = compare_components(torch.from_numpy(scores), torch.from_numpy(ood), 0.9)
    assert one.siou.tolist() == compare_components(scores, ood, 0.9).siou.tolist()


def test_the_thresholds_are_those_of_the_paper():
    assert THRESHOLDS.tolist() == [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]


def test_the_threshold_has_the_highest_f1_of_pixels():
    rng = np.random.default_rng(2)
    ood = rng.choice(np.array([0, 1, 255], np.uint8), 5000, p=(0.8, 0.1, 0.1))
    scores = rng.normal(2 * (ood == 1)).round(1).astype(np.float16)
    known = ood != 255
    precision, recall, limits = precision_recall_curve(ood[known] == 1, scores[known])
    f1 = 2 * precision * recall / (precision + recall)
    assert pixel_f1_threshold(ScoreHistogram.of(scores, ood)) == limits[f1[:-1].argmax()]
    with pytest.raises(DataError, match="needs OOD pixels, got none"):
        pixel_f1_threshold(ScoreHistogram())


def test_wrong_maps_are_refused():
    flat = np.zeros((2, 2))
    with pytest.raises(DataError, match=r"\(H, W\) of one image, got \(2, 2\) and \(2, 3\)"):
        compare_components(flat, np.zeros((2, 3)), 1)
    with pytest.raises(DataError, match=r"\(H, W\) of one image, got \(1, 2, 2\)"):
        compare_components(flat[None], flat[None], 1)
    with pytest.raises(DataError, match=r"or 255 \(ignore\), got 3"):
        compare_components(flat, flat + 3, 1)
    with pytest.raises(DataError, match="must not be NaN"):
        compare_components(flat * np.nan, flat, 1)
    assert compare_components(flat * np.nan, flat + 255, 1).ppv.tolist() == []
