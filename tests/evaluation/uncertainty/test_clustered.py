"""Clustered intervals of the AUROC against definitions, and in repeated experiments."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import multivariate_normal

from latentood.errors import DataError
from latentood.evaluation.members.histograms import runs_of
from latentood.evaluation.uncertainty.clustered import (
    ImageCounts,
    Sums,
    auroc_interval,
    effective_members,
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
    images = ImageCounts.of_images(
        runs_of(scores[image == one], ood[image == one]) for one in range(6)
    )
    assert images.ids.shape == (5, len(np.unique(scores[ood != 255])))
    assert images.units == 4
    rows = ImageCounts.of_members(scores, ood, image)
    assert obuchowski(images) == pytest.approx(obuchowski(rows), abs=1e-12)
    assert auroc_interval(images) == pytest.approx(auroc_interval(rows), abs=1e-12)


@settings(deadline=None)
@given(members, st.integers(0, 99))
def test_covariance_of_two_detectors_equals_the_structural_components(rows, seed):
    scores, ood, image = rows
    assume(all(len(np.unique(image[ood == one])) > 1 for one in (0, 1)))
    others = np.random.default_rng(seed).integers(-3, 3, len(scores))
    one, other = (
        Sums.of(ImageCounts.of_members(values.astype(float), ood, image))
        for values in (scores, others)
    )
    _, expected = slow.obuchowski(scores, ood, image, others)
    assert one.covariance(other) == pytest.approx(expected, abs=1e-12)
    assert other.covariance(one) == pytest.approx(expected, abs=1e-12)


def test_effective_members_equal_the_analysis_of_variance_of_ranks():
    scores, ood, image = split([(20, 5), (3, 0), (9, 9), (14, 1), (2, 2)], np.random.default_rng(2))
    scores = np.round(scores, 1)
    counts = ImageCounts.of_members(scores, ood, image).ids
    expected = slow.effective_members(scores[ood == 0], image[ood == 0])
    assert effective_members(counts) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("alike", "expected"), [(True, (4 + 2 + 6 + 3) ** 2 / (16 + 4 + 36 + 9)), (False, 15)]
)
def test_members_that_are_equal_in_an_image_count_as_one_and_others_in_full(alike, expected):
    image = np.repeat(np.arange(4), [4, 2, 6, 3])
    scores = (
        image.astype(float) if alike else np.array([0, 9, 1, 8, 2, 7, 0, 9, 4, 5, 1, 8, 3, 6, 5.0])
    )
    ood = np.zeros(15, np.uint8)
    assert effective_members(ImageCounts.of_members(scores, ood, image).ids) == pytest.approx(
        expected
    )


def test_members_that_are_all_equal_are_worth_their_images():
    ood, image = np.zeros(12, np.uint8), np.repeat(np.arange(4), 3)
    assert effective_members(ImageCounts.of_members(np.ones(12), ood, image).ids) == pytest.approx(
        4
    )


def normal_variance(area, n, m):
    """Bamber 1975 with probabilities of the bivariate normal distribution."""
    z = NormalDist().inv_cdf(area)
    both = multivariate_normal(cov=[[1, 0.5], [0.5, 1]]).cdf([z, z])
    return (area * (1 - area) + (m + n - 2) * (both - area**2)) / (m * n)


def test_bounds_of_separated_scores_are_t_deviations_of_the_normal_model_away():
    ood = np.repeat([0, 1], [30, 20]).astype(np.uint8)
    low, high = auroc_interval(ImageCounts.of_members(np.arange(50.0), ood, np.arange(50)))
    assert high == 1
    quantile = 2.093024054408263  # t, 19 degrees of freedom, 97.5%
    assert 1 - low == pytest.approx(quantile * normal_variance(low, 30, 20) ** 0.5, rel=1e-4)


def test_bounds_are_t_deviations_away_with_what_images_add_to_the_variance():
    rng = np.random.default_rng(2)
    ood = np.repeat([0, 1], [30, 20]).astype(np.uint8)
    scores = np.round(rng.normal(0, 1, 50) + ood, 1)
    sums = Sums.of(ImageCounts.of_members(scores, ood, np.arange(50)))
    ratio = sums.variance / normal_variance(sums.auroc, 30, 20)
    parts = [(sums.caught**2).sum(), (sums.passed**2).sum()]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 19 + parts[1] ** 2 / 29)
    squares = (sums.caught + sums.passed) ** 2
    excess = ratio + max(1 - ratio, 0) * 5 / (5 + squares.sum() ** 2 / (squares**2).sum())
    for level in (0.8, 0.95):
        quantile = stats.t.ppf((1 + level) / 2, freedom)
        for bound in auroc_interval(sums.images, level):
            deviation = (excess * normal_variance(bound, 30, 20)) ** 0.5
            assert abs(sums.auroc - bound) == pytest.approx(quantile * deviation, rel=1e-4)


def test_turning_scores_around_mirrors_the_interval():
    scores, ood, image = split([(20, 5)] * 8, np.random.default_rng(3))
    low, high = auroc_interval(ImageCounts.of_members(scores, ood, image))
    turned = auroc_interval(ImageCounts.of_members(-scores, ood, image))
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("oods", [1.0, 0.0, -1.0])
def test_images_that_are_all_alike_leave_room_for_others(oods):
    ood = np.tile(np.array([0, 0, 0, 1], np.uint8), 10)
    images = ImageCounts.of_members(np.where(ood == 1, oods, 0), ood, np.arange(40) // 4)
    value, variance = obuchowski(images)
    assert variance == pytest.approx(0, abs=1e-28)
    low, high = auroc_interval(images)
    assert (low, high)[int(oods > 0)] == value or oods == 0
    assert 0.15 < high - low < 0.6


def test_a_variance_that_is_0_up_to_rounding_counts_as_0():
    scores, ood = np.tile([1.0, 2.0, 4.0, 0.0, 3.0], 30), np.tile([0, 0, 0, 1, 1], 30)
    images = ImageCounts.of_members(scores, ood, np.arange(150) // 5)
    value, variance = obuchowski(images)
    assert value == pytest.approx(1 / 3)
    assert variance < 1e-28
    low, high = auroc_interval(images)
    for bound in (low, high):  # members of an image differ as much as any: all 150 count
        deviation = normal_variance(bound, 90, 60) ** 0.5
        assert abs(value - bound) == pytest.approx(2.045229642132703 * deviation, rel=1e-4)


def test_one_image_with_ood_says_nothing():
    scores, ood, image = split([(20, 5), (20, 0), (20, 0)], np.random.default_rng(4))
    images = ImageCounts.of_members(scores, ood, image)
    assert np.isnan(obuchowski(images)[1])
    assert auroc_interval(images) == (0.0, 1.0)


def test_correlated_pixels_need_intervals_over_images():
    """Coverage of 95% intervals in 1,000 experiments: 50 images, half of them with an object."""
    rng = np.random.default_rng(5)
    truth = NormalDist().cdf(1.5 / 2**0.5)
    ours, blind = 0, 0
    for _ in range(1000):
        image = np.repeat(np.arange(50), 40)
        ood = ((np.arange(2000) % 40 < 10) & (image % 2 == 0)).astype(np.uint8)
        effects = rng.normal(0, 0.3**0.5, 50) + 0.2**0.5 * rng.normal(0, 1, (2, 50))
        scores = effects[ood, image] + 0.5**0.5 * rng.normal(0, 1, 2000) + 1.5 * ood
        low, high = auroc_interval(ImageCounts.of_members(scores, ood, image))
        ours += low <= truth <= high
        low, high = delong_interval(scores[ood == 0], scores[ood == 1])
        blind += low <= truth <= high
    assert 0.93 <= ours / 1000 <= 0.97  # standard error 0.007
    assert blind / 1000 < 0.7  # what DeLong over pixels claims as 95%


def test_nonsense_is_refused():
    good = np.zeros(4), np.array([0, 1, 0, 1]), np.arange(4)
    images = ImageCounts.of_members(*good)
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95; 0\.95 is usual"):
        auroc_interval(images, level=95)
    with pytest.raises(DataError, match=r"must be \(M,\), got \(4,\), \(4,\) and \(3,\)"):
        ImageCounts.of_members(*good[:2], np.arange(3))
    with pytest.raises(DataError, match=r"or 255 .*got 2"):
        ImageCounts.of_members(good[0], np.array([0, 1, 2, 255]), good[2])
    with pytest.raises(DataError, match="scores must be finite, got nan"):
        ImageCounts.of_members([np.nan, 0, 0, 0], *good[1:])
    with pytest.raises(DataError, match="at least one image with members, got none"):
        ImageCounts.of_images([])
    for ood in (np.zeros(4), np.full(4, 255)):
        empty = ImageCounts.of_members(good[0], ood, good[2])
        with pytest.raises(DataError, match=r"needs ID and OOD members, got . and 0"):
            auroc_interval(empty)
