import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score

from latentood.evaluation.contrast import Measures, OfMembers, OfRows, Side, average, contrast
from latentood.evaluation.members.maps import Scale, score_maps
from latentood.evaluation.truth import Pixels, Truth
from latentood.evaluation.uncertainty.independent import auroc_interval, mean_auroc
from latentood.latents.rows import InMemory

RNG = np.random.default_rng(0)


def rows(count, ood, shift=0.0):
    truth = Truth("image", np.full(count, ood, dtype=np.uint8), np.arange(count), count)
    return Side(RNG.normal(shift, 1, count), truth)


def boxes(images, shift=0.0, states=(0, 1, 255)):
    image = np.sort(RNG.integers(0, images, 8 * images))
    ood = RNG.choice(states, image.size).astype(np.uint8)
    scores = RNG.normal(0, 1, image.size) + shift * (ood == 1)
    return Side(scores, Truth("box", ood, image, images))


def two_sides():
    return RNG.normal(0, 1, 30), RNG.normal(1, 1, 30)


def cells(images=5):
    masks = torch.from_numpy(RNG.choice([0, 1, 255], (images, 8, 12)).astype(np.uint8))
    ood = np.zeros(images * 6, dtype=np.uint8)
    truth = Truth(
        "cell", ood, np.repeat(np.arange(images), 6), images, Pixels(InMemory(masks), 2, 3)
    )
    return Side(RNG.normal(1e5, 1, images * 6), truth), masks.numpy()


def test_independent_rows_are_compared_one_by_one():
    ids, oods = rows(40, 0), rows(30, 1, 1.0)
    part = contrast(ids, oods, Measures())
    assert isinstance(part, OfRows)
    expected = roc_auc_score([0] * 40 + [1] * 30, np.concatenate([ids.scores, oods.scores]))
    assert part.metrics()["auroc"] == pytest.approx(expected)
    intervals, values = part.intervals(), part.metrics()
    assert set(intervals) == set(values)
    assert all(low <= values[name] <= high for name, (low, high) in intervals.items())
    assert intervals["auroc"] == auroc_interval(ids.scores, oods.scores)


def test_boxes_of_one_split_are_id_and_ood_by_themselves_and_ignored_ones_never_count():
    side = boxes(20, 1.0)
    part = contrast(side, side, Measures())
    known = side.truth.ood != 255
    assert isinstance(part, OfMembers)
    assert (part.n_id, part.n_ood) == ((side.truth.ood == 0).sum(), (side.truth.ood == 1).sum())
    expected = roc_auc_score(side.truth.ood[known], side.scores[known])
    assert part.metrics()["auroc"] == pytest.approx(expected, abs=1e-12)
    intervals, values = part.intervals(), part.metrics()
    assert set(intervals) == set(values) == set(OfRows(*two_sides(), Measures()).metrics())
    assert all(low <= values[name] <= high for name, (low, high) in intervals.items())


def test_of_two_splits_each_gives_one_side():
    ids, oods = boxes(10), boxes(12, 1.0)
    part = contrast(ids, oods, Measures())
    expected = roc_auc_score(
        np.r_[np.zeros((ids.truth.ood == 0).sum()), np.ones((oods.truth.ood == 1).sum())],
        np.r_[ids.of(False), oods.of(True)],
    )
    assert part.metrics()["auroc"] == pytest.approx(expected, abs=1e-12)


def test_pixels_have_the_metrics_of_scikit_learn_on_the_stored_maps():
    side, masks = cells()
    part = contrast(side, side, Measures())
    maps = torch.cat(list(score_maps(side.scores, side.truth.pixels, Scale.of(side.of(False)))))
    assert maps.dtype == torch.float16
    known = masks != 255
    stored, truth = maps.double().numpy()[known], masks[known]
    metrics = part.metrics()
    assert metrics["auroc"] == pytest.approx(roc_auc_score(truth, stored), abs=1e-9)
    assert metrics["aupr_out"] == pytest.approx(average_precision_score(truth, stored), abs=1e-9)
    exact = torch.from_numpy(side.scores).view(5, 1, 2, 3)
    enlarged = F.interpolate(exact, (8, 12), mode="bilinear", align_corners=False)
    whole = enlarged.numpy()[:, 0][known]
    assert metrics["auroc"] == pytest.approx(roc_auc_score(truth, whole), abs=1e-3)
    assert (part.n_id, part.n_ood) == ((masks == 0).sum(), (masks == 1).sum())


def test_wrong_predictions_take_the_place_of_ood():
    side = boxes(10, states=(0,))
    right = RNG.random(side.scores.size) < 0.7
    wrong = ~right & (RNG.random(side.scores.size) < 0.8)
    part = contrast(*[side.with_errors(right, wrong)] * 2, Measures())
    assert (part.n_id, part.n_ood) == (right.sum(), wrong.sum())


def test_means_have_the_interval_of_correlated_sets_and_of_independent_splits():
    asked = Measures()
    ids, sets = rows(50, 0), [rows(40, 1, 0.5), rows(30, 1, 1.0)]
    parts = [contrast(ids, one, asked, n) for n, one in enumerate(sets)]
    expected = mean_auroc(ids.scores, [one.scores for one in sets])
    assert average([ids, ids], sets, parts) == expected
    several = [boxes(20, 1.0), boxes(15, 0.5)]
    parts = [contrast(one, one, asked) for one in several]
    mean, low, high = average(several, several, parts)
    assert mean == pytest.approx(np.mean([part.metrics()["auroc"] for part in parts]))
    widths = [np.diff(part.intervals()["auroc"]) for part in parts]
    assert np.mean(widths) / 2 < high - low < np.mean(widths)


def test_detectors_share_the_draws_of_a_split_and_splits_do_not():
    asked = Measures()
    assert asked.draws(30, 20, 0) is asked.draws(30, 20, 0)
    one, other = asked.draws(30, 20, 0), asked.draws(30, 20, 1)
    assert np.array_equal(one.ids, other.ids)  # the same ID rows
    assert one.ids is other.ids  # kept once
    assert not np.array_equal(one.oods, other.oods)


def test_very_many_rows_have_fewer_samples(monkeypatch):
    monkeypatch.setattr("latentood.evaluation.contrast._MOST_DRAWN", 200 * 300)
    assert Measures().draws(100, 200, 0).ids.shape == (100, 200)
    assert Measures().draws(100, 2000, 0).ids.shape == (100, 100)


def test_ties_are_counted_among_members_as_among_rows():
    image = np.repeat(np.arange(4), 5)
    ood = np.tile([0, 0, 1, 1, 255], 4).astype(np.uint8)
    scores = RNG.integers(0, 3, 20).astype(float)
    side = Side(scores, Truth("box", ood, image, 4))
    assert contrast(side, side, Measures()).ties == pytest.approx(
        OfRows(side.of(False), side.of(True), Measures()).ties
    )
