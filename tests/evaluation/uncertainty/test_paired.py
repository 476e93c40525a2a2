"""Paired tests against their definition, and which detectors they leave beside the best."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from latentood.errors import DataError
from latentood.evaluation.metrics import auroc
from latentood.evaluation.uncertainty.paired import (
    holm,
    indistinguishable,
    paired_auroc,
    paired_bootstrap,
)
from latentood.evaluation.uncertainty.resampling import Resamples, resampled
from tests.references import uncertainty as slow


def detectors(number, sizes, rng, common=0.8):
    """Rounded scores of detectors for ID rows and for OOD sets, correlated in each row."""
    sides = []
    for rows, shift in sizes:
        own = rng.normal(shift, 1, (number, rows)) * (1 - common) ** 0.5
        sides.append(np.round(own + rng.normal(0, common**0.5, rows), 1))
    return sides[0], sides[1:]


def test_errors_equal_those_of_placements_pair_by_pair():
    rng = np.random.default_rng(0)
    ids, sets = detectors(4, [(30, 0), (25, 1), (40, 3)], rng)
    paired = paired_auroc(ids, sets)
    values, errors, freedom = slow.paired_auroc(ids, sets)
    np.testing.assert_allclose(paired.values, values, atol=1e-12)
    np.testing.assert_allclose(paired.errors, errors, rtol=1e-9)
    np.testing.assert_allclose(paired.freedom, freedom, rtol=1e-9)
    expected = 2 * t.sf(np.abs(values[0] - values[2]) / errors[0, 2], freedom[0, 2])
    assert paired.p_values[0, 2] == pytest.approx(expected, rel=1e-9)
    assert paired.p_values[2, 0] == paired.p_values[0, 2]


def test_many_rows_give_the_test_of_delong():
    rng = np.random.default_rng(1)
    ids, (oods,) = detectors(2, [(1000, 0), (800, 1)], rng)
    gaps = [a - b for a, b in zip(*(slow.placements(ids[d], oods[d]) for d in (0, 1)), strict=True)]
    error = sum(gap.var(ddof=1) / gap.size for gap in gaps) ** 0.5
    assert paired_auroc(ids, [oods]).errors[0, 1] == pytest.approx(error, rel=2e-3)


def test_equal_detectors_have_a_p_value_of_1_even_if_perfect():
    for shift in (1, 99):
        ids, sets = detectors(1, [(40, 0), (30, shift)], np.random.default_rng(2))
        twice = [np.repeat(side, 2, axis=0) for side in (ids, *sets)]
        paired = paired_auroc(twice[0], twice[1:])
        assert (paired.p_values == 1).all()
        gap, low, high = paired.difference(0, 1)
        assert gap == 0
        assert low == -high < 0
    assert (paired_bootstrap([0.9, 0.9], np.full((2, 100), 0.9), (40, 30)).p_values == 1).all()


def test_one_row_of_difference_near_perfect_separation_is_not_significant():
    ids, oods = np.arange(40.0), np.arange(40.0) + 40
    worse = oods.copy()
    worse[0] = -1
    paired = paired_auroc(np.stack([ids, ids]), [np.stack([oods, worse])])
    assert paired.values[0] - paired.values[1] == pytest.approx(0.025)
    assert paired.p_values[0, 1] > 0.2


def test_the_interval_of_a_difference_agrees_with_the_test():
    rng = np.random.default_rng(3)
    ids, sets = detectors(5, [(60, 0), (50, 1)], rng, common=0.5)
    paired = paired_auroc(ids + np.arange(5)[:, None] * rng.normal(0, 1, (1, 60)), sets)
    seen = set()
    for a in range(5):
        for b in range(5):
            gap, low, high = paired.difference(a, b)
            assert gap == paired.values[a] - paired.values[b]
            significant = paired.p_values[a, b] < 0.05
            assert significant == (not low <= 0 <= high)
            seen.add(bool(significant))
    assert seen == {True, False}


def test_pairing_finds_what_single_intervals_cannot():
    rng = np.random.default_rng(4)
    ids, (oods,) = detectors(1, [(200, 0), (200, 1)], rng)
    better = oods + 0.15
    paired = paired_auroc(np.repeat(ids, 2, axis=0), [np.concatenate([oods, better])])
    assert paired.p_values[0, 1] < 1e-6
    shuffled = np.concatenate([oods, rng.permuted(better, axis=1)])
    apart = paired_auroc(np.concatenate([ids, rng.permuted(ids, axis=1)]), [shuffled])
    assert apart.values == pytest.approx(paired.values)
    assert apart.p_values[0, 1] > 0.1


def test_a_bootstrap_error_is_the_spread_of_differences_on_shared_rows():
    rng = np.random.default_rng(5)
    ids, (oods,) = detectors(3, [(80, 0), (60, 1)], rng)
    resamples = Resamples.of(80, 60, resamples=300)
    drawn = np.stack([resampled(resamples, ids[d], oods[d])["aupr_out"] for d in range(3)])
    drawn += np.array([[2.0], [1.0], [0.0]])  # far apart: no sample is across 0
    paired = paired_bootstrap([2, 1, 0], drawn, (80, 60), "aupr_out")
    error = ((drawn[0] - drawn[2]).var(ddof=1) + 0.1 * (np.log(61) / 60) ** 2) ** 0.5
    assert paired.errors[0, 2] == pytest.approx(error, rel=1e-9)
    assert (paired.freedom == 59).all()
    other = paired_bootstrap([2, 1, 0], drawn, (80, 60)).errors[0, 2]
    assert other**2 - error**2 == pytest.approx(
        0.1 / 80**2 + 0.1 / 60**2 - 0.1 * (np.log(61) / 60) ** 2, rel=1e-6
    )
    assert error < (drawn[0].var(ddof=1) + drawn[2].var(ddof=1)) ** 0.5 * 0.8


def test_samples_across_0_count_where_the_spread_says_less():
    """A threshold that jumps in 5% of the samples."""
    drawn = np.stack([np.full(100, 0.5), np.full(100, 0.9)])
    drawn[1, :5] = 0.1
    paired = paired_bootstrap([0.5, 0.9], drawn, (1000, 1000))
    assert 0.4 / drawn[1].std(ddof=1) > 2.2
    assert paired.p_values[0, 1] == pytest.approx(0.1)
    _, low, high = paired.difference(1, 0)
    assert low < 0 < high


@given(st.lists(st.floats(0, 1), min_size=0, max_size=8))
def test_holm_multiplies_step_by_step(p_values):
    np.testing.assert_allclose(holm(p_values), slow.holm(p_values), atol=1e-15)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_group_is_the_best_and_those_that_holm_does_not_reject():
    p_values = np.ones((4, 4))
    p_values[1] = p_values[:, 1] = [0.02, 1, 0.03, 0.001]
    values = [0.8, 0.9, 0.85, 0.5]
    assert indistinguishable(values, p_values).tolist() == [False, True, False, False]
    assert indistinguishable(values, p_values, level=0.01).tolist() == [True, True, True, False]
    p_values[0, 1] = p_values[1, 0] = 0.026
    assert indistinguishable(values, p_values).tolist() == [True, True, True, False]


def test_the_best_of_errors_is_the_smallest_and_unknown_values_are_no_tests():
    p_values = np.full((4, 4), 0.04)
    values = [0.1, np.nan, 0.2, np.nan]
    group = indistinguishable(values, p_values, higher_is_better=False)
    assert group.tolist() == [True, False, False, False]
    assert indistinguishable(values, p_values).tolist() == [False, False, True, False]
    assert not indistinguishable([np.nan] * 4, p_values).any()
    assert indistinguishable([0.3], np.ones((1, 1))).tolist() == [True]


def test_values_are_those_of_single_detectors():
    ids, sets = detectors(3, [(30, 0), (20, 1), (25, 2)], np.random.default_rng(6))
    expected = [np.mean([auroc(ids[d], one[d]) for one in sets]) for d in range(3)]
    assert paired_auroc(ids, sets).values == pytest.approx(expected)


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="needs at least one OOD set, got none"):
        paired_auroc(np.zeros((2, 3)), [])
    with pytest.raises(DataError, match=r"OOD scores must be .* got \(3, 3\) beside \(2, 3\)"):
        paired_auroc(np.zeros((2, 3)), [np.zeros((3, 3))])
    with pytest.raises(DataError, match=r"ID scores must be \(D, n\) with n ≥ 2"):
        paired_auroc(np.zeros((2, 1)), [np.zeros((2, 3))])
    with pytest.raises(DataError, match=r"values must be \(D,\) and drawn \(D, B\)"):
        paired_bootstrap([0.1], np.zeros((2, 100)), (9, 9))
    with pytest.raises(DataError, match="needs at least 2 rows of each side, got 1"):
        paired_bootstrap([0.1], np.zeros((1, 100)), (9, 1))
