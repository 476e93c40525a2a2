"""DeLong intervals against the definition of the variance, and against repeated experiments."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentood.errors import DataError
from latentood.evaluation.metrics import auroc
from latentood.evaluation.uncertainty.independent import (
    auroc_interval,
    delong_covariance,
    mean_auroc,
)

scores = arrays(np.float64, st.integers(2, 30), elements=st.integers(-4, 4).map(float))


def slow_covariance(ids, sets):
    """Structural components of DeLong et al. 1988, comparing every pair."""
    kernels = [
        (oods[:, None] > ids[None, :]) + 0.5 * (oods[:, None] == ids[None, :]) for oods in sets
    ]
    covariance = np.zeros((len(sets), len(sets)))
    for s, first in enumerate(kernels):
        for t, second in enumerate(kernels):
            left, right = first.mean(axis=0), second.mean(axis=0)
            shared = np.sum((left - left.mean()) * (right - right.mean())) / (len(ids) - 1)
            covariance[s, t] = shared / len(ids)
        rows = first.mean(axis=1)
        covariance[s, s] += np.sum((rows - rows.mean()) ** 2) / (len(rows) - 1) / len(rows)
    return covariance


@settings(deadline=None)
@given(ids=scores, sets=st.lists(scores, min_size=1, max_size=3))
def test_covariance_equals_the_structural_components_with_ties(ids, sets):
    values, covariance = delong_covariance(ids, sets)
    assert values == pytest.approx([auroc(ids, oods) for oods in sets], abs=1e-12)
    np.testing.assert_allclose(covariance, slow_covariance(ids, sets), atol=1e-12)


def test_the_interval_is_the_wald_interval_of_that_variance():
    rng = np.random.default_rng(0)
    ids, oods = rng.normal(0, 1, 200), rng.normal(1, 1, 150)
    half = 1.959963984540054 * slow_covariance(ids, [oods])[0, 0] ** 0.5
    value = auroc(ids, oods)
    assert auroc_interval(ids, oods) == pytest.approx((value - half, value + half), abs=1e-12)
    wider = auroc_interval(ids, oods, level=0.99)
    assert wider[0] < value - half
    assert wider[1] > value + half


def test_ninety_five_percent_of_intervals_hold_the_true_auroc():
    rng = np.random.default_rng(1)
    truth = 0.7602499389065233  # Φ(1/√2): two unit normals one apart
    draws = [auroc_interval(rng.normal(0, 1, 120), rng.normal(1, 1, 80)) for _ in range(1000)]
    share = np.mean([low <= truth <= high for low, high in draws])
    assert 0.93 <= share <= 0.97  # standard error 0.007


def test_intervals_of_an_average_hold_it_although_the_sets_share_id_rows():
    rng = np.random.default_rng(2)
    truth = 0.7602499389065233
    hits, blind = 0, 0
    for _ in range(600):
        ids = rng.normal(0, 1, 60)
        sets = [rng.normal(1, 1, 200) for _ in range(4)]
        mean, low, high = mean_auroc(ids, sets)
        hits += low <= truth <= high
        _, covariance = delong_covariance(ids, sets)
        independent = 1.96 * np.sqrt(np.trace(covariance)) / 4
        blind += abs(mean - truth) <= independent
    assert 0.92 <= hits / 600 <= 0.975
    assert blind / 600 < 0.85  # what ignoring the shared rows would claim as 95%


def test_the_average_weighs_sets_equally_whatever_their_rows():
    ids = np.zeros(10)
    mean, _, _ = mean_auroc(ids, [np.ones(2), -np.ones(1000)])
    assert mean == 0.5


def test_intervals_are_clipped():
    rng = np.random.default_rng(3)
    low, high = auroc_interval(rng.normal(0, 1, 12), rng.normal(2.5, 1, 12))
    assert low < 1.0
    assert high == 1.0


def test_perfect_separation_has_no_width():
    assert auroc_interval([0.0, 1.0, 2.0], [3.0, 4.0]) == (1.0, 1.0)


def test_a_single_row_says_nothing():
    assert auroc_interval([0.0], [1.0, 2.0]) == (0.0, 1.0)
    assert auroc_interval([0.0, 1.0], [2.0]) == (0.0, 1.0)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_turning_scores_around_mirrors_the_interval(ids, oods):
    assume(len(ids) > 1)
    low, high = auroc_interval(ids, oods)
    assert auroc_interval(-ids, -oods) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_nonsense_is_refused():
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95; 0\.95 is usual"):
        auroc_interval([0.0, 1.0], [1.0, 2.0], level=95)
    with pytest.raises(DataError, match="needs at least one OOD set, got none"):
        mean_auroc([0.0, 1.0], [])
    with pytest.raises(DataError, match="OOD scores must be finite"):
        auroc_interval([0.0, 1.0], [np.nan, 2.0])
