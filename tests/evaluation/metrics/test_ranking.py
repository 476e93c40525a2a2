"""Metrics against scikit-learn and against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from latentood import metrics
from latentood.errors import DataError

RANKED = [
    metrics.auroc,
    metrics.aupr_out,
    metrics.aupr_in,
    metrics.fpr95_ood,
    metrics.fpr95_id,
]

# Few distinct values, so that ties within and across the two sets are the rule.
tied_scores = arrays(np.float64, st.integers(1, 60), elements=st.integers(-3, 3).map(float))
any_scores = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6))
scores = st.one_of(tied_scores, any_scores)


def truth(ids, oods):
    return np.repeat([0, 1], [len(ids), len(oods)]), np.concatenate([ids, oods])


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_auroc_equals_scikit_learn_with_ties(ids, oods):
    assert metrics.auroc(ids, oods) == pytest.approx(roc_auc_score(*truth(ids, oods)), abs=1e-12)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_aupr_equals_scikit_learn_for_either_positive_class(ids, oods):
    labels, values = truth(ids, oods)
    out = average_precision_score(labels, values)
    inside = average_precision_score(1 - labels, -values)
    assert metrics.aupr_out(ids, oods) == pytest.approx(out, abs=1e-12)
    assert metrics.aupr_in(ids, oods) == pytest.approx(inside, abs=1e-12)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_fpr95_is_the_least_over_all_thresholds_that_reach_95_percent(ids, oods):
    thresholds = np.unique(np.concatenate([ids, oods]))
    caught = [100 * np.sum(oods >= t) >= 95 * oods.size for t in thresholds]
    kept = [100 * np.sum(ids <= t) >= 95 * ids.size for t in thresholds]
    by_ood = min(np.mean(ids >= t) for t, ok in zip(thresholds, caught, strict=True) if ok)
    by_id = min(np.mean(oods <= t) for t, ok in zip(thresholds, kept, strict=True) if ok)
    assert metrics.fpr95_ood(ids, oods) == by_ood
    assert metrics.fpr95_id(ids, oods) == by_id


def test_the_two_fpr95_differ_and_say_what_they_count():
    ids = np.arange(100.0)
    oods = np.concatenate([np.full(10, 50.0), np.full(90, 1000.0)])
    # Catching 95 of 100 OOD rows takes the threshold 50, which 50 of 100 ID rows reach.
    assert metrics.fpr95_ood(ids, oods) == 0.5
    # Keeping 95 of 100 ID rows takes the threshold 94, under which 10 of 100 OOD rows lie.
    assert metrics.fpr95_id(ids, oods) == 0.1


@pytest.mark.parametrize("count", [20, 40, 60, 100, 1000])
def test_fpr95_takes_exactly_95_percent_where_that_is_a_whole_number(count):
    oods = np.arange(count, dtype=float)
    threshold = oods[count // 20]  # 5% of the rows lie below it
    assert metrics.fpr95_ood([threshold - 0.5], oods) == 0.0
    assert metrics.fpr95_ood([threshold], oods) == 1.0


def test_equal_scores_are_chance():
    assert metrics.auroc([1.0] * 5, [1.0] * 3) == 0.5
    assert metrics.aupr_out([1.0] * 5, [1.0] * 3) == pytest.approx(3 / 8)
    assert metrics.fpr95_ood([1.0] * 5, [1.0] * 3) == 1.0


def test_higher_means_more_ood():
    assert metrics.auroc([0.0, 1.0], [2.0, 3.0]) == 1.0
    assert metrics.auroc([2.0, 3.0], [0.0, 1.0]) == 0.0


def test_close_float64_scores_are_not_merged():
    ids, oods = np.array([1.0]), np.array([1.0 + 2**-52])
    assert metrics.auroc(ids, oods) == 1.0


@pytest.mark.parametrize("metric", RANKED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_torch_numpy_and_lists_give_the_same(metric, dtype):
    ids, oods = torch.tensor([0, 1, 1, 2], dtype=dtype), torch.tensor([1, 2, 3], dtype=dtype)
    expected = metric([0.0, 1.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    assert metric(ids, oods) == expected
    assert metric(ids.double().numpy(), oods.double().numpy()) == expected


@pytest.mark.parametrize("metric", RANKED)
def test_bad_scores_are_refused_with_the_side_and_row(metric):
    name = metric.__name__
    with pytest.raises(DataError, match=rf"^{name}: OOD scores must be finite, got nan in row 1; "):
        metric([0.0], [1.0, float("nan")])
    with pytest.raises(DataError, match=rf"^{name}: ID scores must be finite, got inf in row 0; "):
        metric([float("inf")], [1.0])
    with pytest.raises(
        DataError, match=rf"^{name}: ID scores must be \(n,\) with n ≥ 1, got shape "
    ):
        metric([], [1.0])
    with pytest.raises(DataError, match=r"got shape \(2, 1\); give one score per row"):
        metric([0.0], np.zeros((2, 1)))


@pytest.mark.parametrize("count", [1, 19, 20, 21, 40, 180, 1001])
def test_the_id_threshold_is_the_lowest_score_that_keeps_95_percent(count):
    ids = np.random.default_rng(count).permutation(count).astype(float)
    threshold = metrics.id_threshold(ids)
    assert 20 * (ids <= threshold).sum() >= 19 * count > 20 * (ids < threshold).sum()
    oods = np.array([threshold, threshold + 0.5])
    assert metrics.fpr95_id(ids, oods) == 0.5  # at the threshold a row is accepted
