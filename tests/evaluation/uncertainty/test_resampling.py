"""The bootstrap of rows against metrics of the rows that were drawn, and intervals from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentood.errors import DataError
from latentood.evaluation import metrics
from latentood.evaluation.metrics import counts
from latentood.evaluation.uncertainty import passing
from latentood.evaluation.uncertainty.resampling import (
    RESAMPLED,
    Resamples,
    aupr_interval,
    fpr95_interval,
    intervals,
    resampled,
    resampled_metric,
)
from tests.references import uncertainty as slow

scores = arrays(np.float64, st.integers(1, 45), elements=st.integers(-4, 4).map(float))


def drawn_rows(resamples, ids, oods):
    """The rows of each bootstrap sample, repeated as often as they were drawn."""
    for column in range(resamples.ids.shape[1]):
        yield (
            np.repeat(ids, resamples.ids[:, column]),
            np.repeat(oods, resamples.oods[:, column]),
        )


@settings(deadline=None, max_examples=30)
@given(ids=scores, oods=scores, tied=st.booleans(), seed=st.integers(0, 9))
def test_samples_have_the_metrics_of_the_rows_that_were_drawn(ids, oods, tied, seed):
    if not tied:
        rng = np.random.default_rng(seed)
        ids, oods = ids + rng.normal(0, 1, ids.size), oods + rng.normal(1, 1, oods.size)
    resamples = Resamples.of(ids.size, oods.size, resamples=100, seed=seed)
    values = resampled(resamples, ids, oods)
    assert list(values) == list(RESAMPLED)
    for name in RESAMPLED:
        metric = getattr(metrics, name)
        expected = [metric(*sides) for sides in drawn_rows(resamples, ids, oods)]
        np.testing.assert_allclose(values[name], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_pieces_of_rows_do_not_change_the_samples(monkeypatch, at_once):
    rng = np.random.default_rng(0)
    ids, oods = np.round(rng.normal(0, 2, 300)), np.round(rng.normal(2, 2, 200))
    resamples = Resamples.of(300, 200, resamples=100)
    whole = resampled(resamples, ids, oods)
    monkeypatch.setattr(passing, "_ROWS", at_once)
    for name, values in resampled(resamples, ids, oods).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["auroc", *RESAMPLED])
def test_any_metric_of_counts_can_be_resampled(name):
    rng = np.random.default_rng(1)
    ids, oods = np.round(rng.normal(0, 2, 50)), np.round(rng.normal(2, 2, 31))
    resamples = Resamples.of(50, 31, resamples=100)
    expected = [getattr(metrics, name)(*rows) for rows in drawn_rows(resamples, ids, oods)]
    values = resampled_metric(getattr(counts, name), resamples, ids, oods)
    np.testing.assert_allclose(values, expected, atol=1e-12, rtol=0)


def test_draws_are_stratified_seeded_and_shared_where_id_rows_are():
    one = Resamples.of(300, 40, resamples=200, seed=3)
    assert one.ids.shape == (300, 200)
    assert (one.ids.sum(axis=0) == 300).all()
    assert (one.oods.sum(axis=0) == 40).all()
    assert one.ids.var() == pytest.approx(1, abs=0.02)
    same = Resamples.of(300, 40, resamples=200, seed=3)
    assert (same.ids == one.ids).all()
    assert (same.oods == one.oods).all()
    other = Resamples.of(300, 40, resamples=200, seed=3, ood_set=1)
    assert (other.ids == one.ids).all()
    assert (other.oods != one.oods).any()
    beside = one.beside(40, 1)
    assert beside.ids is one.ids
    assert (beside.oods == other.oods).all()
    assert (Resamples.of(300, 40, resamples=200, seed=4).ids != one.ids).any()


def test_intervals_mirror_and_do_not_change_with_a_monotone_transform():
    rng = np.random.default_rng(2)
    ids, oods = np.round(rng.normal(0, 2, 80)), np.round(rng.normal(2, 2, 60))
    resamples = Resamples.of(80, 60, resamples=200)
    bounds = intervals(resamples, ids, oods)
    assert intervals(resamples, ids**3 - 1, oods**3 - 1) == bounds
    assert intervals(resamples, ids, oods, resampled(resamples, ids, oods)) == bounds
    turned = intervals(Resamples(resamples.oods, resamples.ids, resamples.seed), -oods, -ids)
    swapped = {"aupr_out": "aupr_in", "fpr95_ood": "fpr95_id", "detection_error": "detection_error"}
    for name, other in swapped.items():
        assert turned[other] == pytest.approx(bounds[name], abs=1e-6)
    for name, (low, high) in bounds.items():
        assert low < getattr(metrics, name)(ids, oods) < high


def test_an_aupr_has_the_interval_of_as_many_trials_as_its_variance_says():
    rng = np.random.default_rng(3)
    drawn = rng.normal(0.9, 0.02, 500)
    unseen = 0.1 * (np.log(41) / 40) ** 2
    trials = (0.9 * 0.1 + 0.5 / 40) / (drawn.var(ddof=1) + unseen)
    expected = slow.share_interval(0.9, trials, 29)
    assert aupr_interval(0.9, drawn, 30, 40) == pytest.approx(expected, abs=1e-9)


def test_perfect_separation_is_not_certainty():
    for name, (low, high) in intervals(
        Resamples.of(100, 100, resamples=200), np.arange(100), np.arange(100) + 100
    ).items():
        assert (high == 1) if name.startswith("aupr") else (low == 0)
        assert 0.01 < high - low < 0.2


def test_the_threshold_of_an_fpr_lies_between_order_statistics():
    """Without drawing: P(share ≤ x) summed over J and over counts between its neighbours."""
    rng = np.random.default_rng(4)
    ids, oods = rng.normal(0, 1, 90), rng.normal(1.5, 1, 120)
    from scipy.stats import beta, binom

    ordered = np.concatenate([[-np.inf], np.sort(oods), [np.inf]])
    reached = (ids[None, :] >= ordered[:, None]).sum(axis=1)
    fine = (np.arange(200) + 0.5) / 200

    def cdf(x):
        total = 0.0
        for j in range(30):
            count = reached[j + 1] + fine * (reached[j] - reached[j + 1])
            total += binom.pmf(j, 120, 0.05) * beta.cdf(x, count + 0.5, 90 - count + 0.5).mean()
        return total

    low, high = fpr95_interval(ids, oods, draws=200_000)
    assert cdf(low) == pytest.approx(0.025, abs=0.002)  # standard error of draws 0.0004
    assert cdf(high) == pytest.approx(0.975, abs=0.002)


def test_few_positives_cannot_exclude_that_all_negatives_are_accepted():
    ids = np.linspace(-3, 3, 500)
    assert fpr95_interval(ids, np.linspace(2, 4, 50))[1] == 1
    assert fpr95_interval(ids, np.linspace(2, 4, 200))[1] < 0.5


def test_a_single_row_says_nothing_of_an_aupr():
    assert intervals(Resamples.of(1, 5, resamples=100), [0.0], np.arange(5))["aupr_out"] == (0, 1)


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="needs ID and OOD rows and resamples ≥ 100, got 0 and 3"):
        Resamples.of(0, 3)
    with pytest.raises(DataError, match="and 10 resamples; 1000 is usual"):
        Resamples.of(3, 3, resamples=10)
    resamples = Resamples.of(3, 4, resamples=100)
    with pytest.raises(DataError, match="drawn for 3 ID and 4 OOD rows, got 4 and 3 scores"):
        resampled(resamples, np.zeros(4), np.zeros(3))
    with pytest.raises(DataError, match="ID scores must be finite, got nan in row 1"):
        resampled_metric(counts.auroc, resamples, [0, np.nan, 1], np.zeros(4))
    with pytest.raises(DataError, match=r"level must be in \(0, 1\), got 95"):
        intervals(resamples, np.zeros(3), np.zeros(4), level=95)
