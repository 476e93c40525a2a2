"""Clustered intervals against the definition of their variance, and repeated experiments."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from latentood import metrics
from latentood.errors import DataError
from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.metrics.counts import METRICS
from latentood.evaluation.uncertainty.clustered import (
    ImageCounts,
    auroc_interval,
    bootstrap_over_images,
    obuchowski,
)
from latentood.evaluation.uncertainty.independent import auroc_interval as delong_interval
from latentood.evaluation.uncertainty.independent import delong_covariance
from tests.references import members as slow


def split(pixels, rng):
    """Scores, ood and image of members whose scores share an effect of their image."""
    scores, ood, image = [], [], []
    for number, (n, m) in enumerate(pixels):
        effect = rng.normal() * 0.6
        scores += [effect + rng.normal(0, 0.8, n), effect + rng.normal(1.5, 0.8, m)]
        ood += [np.zeros(n, np.uint8), np.ones(m, np.uint8)]
        image += [np.full(n + m, number)]
    return np.concatenate(scores), np.concatenate(ood), np.concatenate(image)


members = st.lists(
    st.tuples(st.integers(-3, 3), st.sampled_from([0, 1, 255]), st.integers(0, 5)),
    min_size=4,
    max_size=40,
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@settings(deadline=None)
@given(members)
def test_variance_equals_the_structural_components_with_ties_and_images_of_one_class(rows):
    scores, ood, image = rows
    assume(all(len(np.unique(image[ood == one])) > 1 for one in (0, 1)))
    value, variance = obuchowski(ImageCounts.of_members(scores.astype(float), ood, image))
    area, expected = slow.obuchowski(scores, ood, image)
    assert value == pytest.approx(area, abs=1e-12)
    assert variance == pytest.approx(max(expected, 0), abs=1e-12)


def test_one_member_in_each_image_gives_the_variance_of_delong():
    rng = np.random.default_rng(0)
    scores, ood = rng.integers(0, 9, 60).astype(float), np.repeat([0, 1], [35, 25])
    value, variance = obuchowski(ImageCounts.of_members(scores, ood, np.arange(60)))
    values, covariance = delong_covariance(scores[ood == 0], [scores[ood == 1]])
    assert value == pytest.approx(values[0], abs=1e-12)
    assert variance == pytest.approx(covariance[0, 0], abs=1e-12)


def test_histograms_of_images_give_what_their_members_give():
    rng = np.random.default_rng(1)
    scores, ood, image = split([(30, 10), (20, 0), (0, 9), (40, 20), (0, 0), (12, 3)], rng)
    scores = scores.astype(np.float16)
    ood[::11] = 255
    images = ImageCounts.of_histograms(
        ScoreHistogram.of(scores[image == one], ood[image == one]) for one in range(6)
    )
    assert images.ids.shape == (5, len(np.unique(scores[ood != 255])))
    assert images.units == 4
    rows = ImageCounts.of_members(scores, ood, image)
    assert obuchowski(images) == pytest.approx(obuchowski(rows), abs=1e-12)
    for name, bounds in bootstrap_over_images(images, resamples=100).items():
        assert bounds == bootstrap_over_images(rows, resamples=100)[name]


def test_the_interval_is_symmetric_in_logits_with_the_t_quantile_of_the_images():
    rng = np.random.default_rng(2)
    images = ImageCounts.of_members(*split([(20, 5)] * 10, rng))
    value, variance = obuchowski(images)
    low, high = auroc_interval(images)

    def logit(p):
        return np.log(p / (1 - p))

    half = 2.2621571628540993 * variance**0.5 / (value * (1 - value))  # t, 9 degrees, 97.5%
    assert logit(low) == pytest.approx(logit(value) - half, abs=1e-9)
    assert logit(high) == pytest.approx(logit(value) + half, abs=1e-9)
    wider = auroc_interval(images, level=0.99)
    assert wider[0] < low < value < high < wider[1] < 1


def test_turning_scores_around_mirrors_the_interval():
    scores, ood, image = split([(20, 5)] * 8, np.random.default_rng(3))
    low, high = auroc_interval(ImageCounts.of_members(scores, ood, image))
    turned = auroc_interval(ImageCounts.of_members(-scores, ood, image))
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(
    ("oods", "expected"),
    [(1.0, (0.025**0.1, 1.0)), (-1.0, (0.0, 1 - 0.025**0.1)),
     (0.0, (0.5 * 0.025**0.1, 1 - 0.5 * 0.025**0.1))],
)  # fmt: skip
def test_images_that_are_all_alike_leave_room_for_others(oods, expected):
    ood = np.tile(np.array([0, 0, 0, 1], np.uint8), 10)
    images = ImageCounts.of_members(np.where(ood == 1, oods, 0), ood, np.arange(40) // 4)
    assert obuchowski(images)[1] == pytest.approx(0, abs=1e-30)
    assert auroc_interval(images) == pytest.approx(expected, abs=1e-12)


def test_a_variance_that_is_0_up_to_rounding_counts_as_0():
    scores, ood = np.tile([1.0, 2.0, 4.0, 0.0, 3.0], 30), np.tile([0, 0, 0, 1, 1], 30)
    images = ImageCounts.of_members(scores, ood, np.arange(150) // 5)
    value, variance = obuchowski(images)
    assert value == pytest.approx(1 / 3)
    assert variance < 1e-28
    low, high = auroc_interval(images)
    assert (low, high) == pytest.approx(
        (0.025 ** (1 / 30) / 3, 1 - 0.025 ** (1 / 30) * 2 / 3), abs=1e-9
    )


def test_one_image_with_ood_says_nothing():
    scores, ood, image = split([(20, 5), (20, 0), (20, 0)], np.random.default_rng(4))
    images = ImageCounts.of_members(scores, ood, image)
    assert np.isnan(obuchowski(images)[1])
    assert auroc_interval(images) == (0.0, 1.0)
    assert set(bootstrap_over_images(images).values()) == {(0.0, 1.0)}


def test_correlated_pixels_need_intervals_over_images():
    """Coverage of 95% intervals in 1,500 experiments: 50 images, half of them with an object."""
    rng = np.random.default_rng(5)
    truth = NormalDist().cdf(1.5 / 2**0.5)
    ours, blind = 0, 0
    for _ in range(1500):
        image = np.repeat(np.arange(50), 40)
        ood = ((np.arange(2000) % 40 < 10) & (image % 2 == 0)).astype(np.uint8)
        effects = rng.normal(0, 0.3**0.5, 50) + 0.2**0.5 * rng.normal(0, 1, (2, 50))
        scores = effects[ood, image] + 0.5**0.5 * rng.normal(0, 1, 2000) + 1.5 * ood
        low, high = auroc_interval(ImageCounts.of_members(scores, ood, image))
        ours += low <= truth <= high
        low, high = delong_interval(scores[ood == 0], scores[ood == 1])
        blind += low <= truth <= high
    assert 0.93 <= ours / 1500 <= 0.97  # standard error 0.006
    assert blind / 1500 < 0.7  # what DeLong over pixels claims as 95%


def test_the_bootstrap_draws_whole_images():
    scores, ood, image = split([(9, 4), (8, 0), (0, 5), (12, 6)], np.random.default_rng(6))
    scores = np.round(scores, 1)
    bounds = bootstrap_over_images(
        ImageCounts.of_members(scores, ood, image), resamples=150, seed=7, level=0.9
    )
    values = {name: [] for name in METRICS}
    for drawn in np.random.default_rng(7).multinomial(4, [0.25] * 4, size=150):
        rows = np.concatenate([np.flatnonzero(image == i) for i in np.repeat(np.arange(4), drawn)])
        sides = [scores[rows][ood[rows] == one] for one in (0, 1)]
        if all(map(len, sides)):
            for name in METRICS:
                values[name].append(getattr(metrics, name)(*sides))
    assert len(values["auroc"]) < 150
    for name, (low, high) in bounds.items():
        assert (low, high) == pytest.approx(np.quantile(values[name], (0.05, 0.95)), abs=1e-12)


def test_pieces_of_resamples_do_not_change_the_bootstrap(monkeypatch):
    images = ImageCounts.of_members(*split([(20, 5)] * 6, np.random.default_rng(8)))
    whole = bootstrap_over_images(images, resamples=100)
    monkeypatch.setattr("latentood.evaluation.uncertainty.clustered._PIECE", 1000)
    assert bootstrap_over_images(images, resamples=100) == whole
    assert bootstrap_over_images(images, resamples=100, seed=1) != whole


def test_nonsense_is_refused():
    good = np.zeros(4), np.array([0, 1, 0, 1]), np.arange(4)
    images = ImageCounts.of_members(*good)
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95; 0\.95 is usual"):
        auroc_interval(images, level=95)
    with pytest.raises(DataError, match="level must be"):
        bootstrap_over_images(images, level=0)
    with pytest.raises(DataError, match="resamples must be ≥ 100, got 10"):
        bootstrap_over_images(images, resamples=10)
    with pytest.raises(DataError, match=r"must be \(M,\), got \(4,\), \(4,\) and \(3,\)"):
        ImageCounts.of_members(*good[:2], np.arange(3))
    with pytest.raises(DataError, match=r"or 255 .*got 2"):
        ImageCounts.of_members(good[0], np.array([0, 1, 2, 255]), good[2])
    with pytest.raises(DataError, match="scores must be finite, got nan"):
        ImageCounts.of_members([np.nan, 0, 0, 0], *good[1:])
    with pytest.raises(DataError, match="at least one image, got none"):
        ImageCounts.of_histograms([])
    for ood in (np.zeros(4), np.full(4, 255)):
        empty = ImageCounts.of_members(good[0], ood, good[2])
        with pytest.raises(DataError, match=r"needs ID and OOD members, got . and 0"):
            auroc_interval(empty)
        with pytest.raises(DataError, match=r"needs ID and OOD members, got . and 0"):
            bootstrap_over_images(empty)
