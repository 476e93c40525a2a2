"""Intervals of an AUROC against the definition, and what they must be at the ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentood.errors import DataError
from latentood.evaluation.metrics import auroc
from latentood.evaluation.uncertainty.independent import (
    auroc_interval,
    delong_covariance,
    mean_auroc,
    pooled_rows,
    share_interval,
)
from tests.references import uncertainty as slow

scores = arrays(np.float64, st.integers(2, 30), elements=st.integers(-4, 4).map(float))


@settings(deadline=None)
@given(ids=scores, sets=st.lists(scores, min_size=1, max_size=3))
def test_covariance_equals_the_structural_components_with_ties(ids, sets):
    values, covariance = delong_covariance(ids, sets)
    assert values == pytest.approx([auroc(ids, oods) for oods in sets], abs=1e-12)
    np.testing.assert_allclose(covariance, slow.delong_covariance(ids, sets), atol=1e-12)


@settings(deadline=None)
@given(ids=scores, oods=scores, level=st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_that_of_as_many_trials_as_the_placements_are_worth(ids, oods, level):
    expected = slow.auroc_interval(ids, oods, level)
    assert auroc_interval(ids, oods, level) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_the_interval_holds_the_estimate_and_has_width(ids, oods):
    low, high = auroc_interval(ids, oods)
    assert 0 <= low <= auroc(ids, oods) <= high <= 1
    assert high - low > 0.05
    wider = auroc_interval(ids, oods, level=0.99)
    assert wider[0] <= low
    assert wider[1] >= high


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_turning_scores_or_swapping_sides_mirrors_the_interval(ids, oods):
    low, high = auroc_interval(ids, oods)
    assert auroc_interval(-ids, -oods) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert auroc_interval(-oods, -ids) == pytest.approx((low, high), abs=1e-9)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_a_monotone_transform_changes_nothing(ids, oods):
    assert auroc_interval(np.exp(ids) - 5, np.exp(oods) - 5) == auroc_interval(ids, oods)


def test_the_average_has_the_variance_of_sets_that_share_id_rows():
    rng = np.random.default_rng(2)
    ids, sets = rng.normal(0, 1, 40), [rng.normal(1, 1, m) for m in (30, 90, 50)]
    parts = [slow.placements(ids, oods) for oods in sets]
    mean = np.mean([passed.mean() for passed, _ in parts])
    worth = 9 / (1 / 30 + 1 / 90 + 1 / 50)
    assert pooled_rows([30, 90, 50]) == pytest.approx(worth)
    kappas = []
    own = sum(caught.var(ddof=1) / caught.size for _, caught in parts) / 9
    shared = np.mean([passed for passed, _ in parts], axis=0).var(ddof=1)
    for spread, rows in ((shared, 40), (own * worth, worth)):
        kappas.append((spread + 0.25 / rows) / (mean * (1 - mean) + 0.5 / rows) / rows)
    freedom = sum(kappas) ** 2 / (kappas[0] ** 2 / 39 + kappas[1] ** 2 / (worth - 1))
    expected = slow.share_interval(mean, 1 / sum(kappas), freedom)
    assert mean_auroc(ids, sets) == pytest.approx((mean, *expected), abs=1e-9)
    assert mean_auroc(ids, sets[:1])[1:] == auroc_interval(ids, sets[0])


def test_the_average_weighs_sets_equally_whatever_their_rows():
    ids = np.zeros(10)
    mean, _, _ = mean_auroc(ids, [np.ones(2), -np.ones(1000)])
    assert mean == 0.5


@pytest.mark.parametrize(("rows", "least"), [(3, 0.2), (30, 0.87), (1000, 0.995)])
def test_perfect_separation_is_not_certainty(rows, least):
    low, high = auroc_interval(np.arange(rows), np.arange(rows) + rows)
    assert high == 1.0
    assert least < low < 1
    assert low == pytest.approx(slow.auroc_interval(np.arange(rows), np.arange(rows) + rows)[0])


def test_many_trials_give_the_wald_interval():
    low, high = share_interval(0.7, 1e6, 1e9)
    half = 1.959963984540054 * np.sqrt(0.7 * 0.3 / 1e6)
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-6)


def test_a_single_row_says_nothing():
    assert auroc_interval([0.0], [1.0, 2.0]) == (0.0, 1.0)
    assert auroc_interval([0.0, 1.0], [2.0]) == (0.0, 1.0)
    _, covariance = delong_covariance([0.0], [[1.0, 2.0]])
    assert np.isnan(covariance).all()


def test_nonsense_is_refused():
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95; 0\.95 is usual"):
        auroc_interval([0.0, 1.0], [1.0, 2.0], level=95)
    with pytest.raises(DataError, match="needs at least one OOD set, got none"):
        mean_auroc([0.0, 1.0], [])
    with pytest.raises(DataError, match="OOD scores must be finite"):
        auroc_interval([0.0, 1.0], [np.nan, 2.0])
