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
from tests.references import selective as slow

RANKED = [
    metrics.detection_error,
    metrics.aupr_out_at,
    metrics.autc,
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


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_detection_error_and_autc_are_those_of_all_thresholds(ids, oods):
    error = slow.detection_error(ids, oods)
    assert metrics.detection_error(ids, oods) == pytest.approx(error, abs=1e-12)
    assert metrics.autc(ids, oods) == pytest.approx(slow.autc(ids, oods), abs=1e-9)
    assert 0 <= metrics.detection_error(ids, oods) <= 0.5
    assert 0 <= metrics.autc(ids, oods) <= 1


@settings(deadline=None)
@given(ids=scores, oods=scores, prevalence=st.sampled_from([0.001, 0.1, 0.5, 0.99]))
def test_aupr_at_a_share_equals_scikit_learn_with_weights(ids, oods, prevalence):
    labels, values = truth(ids, oods)
    weights = np.repeat(
        [(1 - prevalence) / ids.size, prevalence / oods.size], [ids.size, oods.size]
    )
    expected = average_precision_score(labels, values, sample_weight=weights)
    assert metrics.aupr_out_at(ids, oods, prevalence) == pytest.approx(expected, abs=1e-12)
    mirrored = average_precision_score(1 - labels, -values, sample_weight=weights)
    swapped = metrics.aupr_out_at(-oods, -ids, 1 - prevalence)
    assert swapped == pytest.approx(mirrored, abs=1e-12)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_aupr_at_the_share_of_the_rows_is_aupr(ids, oods):
    share = oods.size / (ids.size + oods.size)
    at_share = metrics.aupr_out_at(ids, oods, share)
    assert at_share == pytest.approx(metrics.aupr_out(ids, oods), abs=1e-12)
    repeated = metrics.aupr_out_at(ids, np.tile(oods, 3), 0.3)
    assert repeated == pytest.approx(metrics.aupr_out_at(ids, oods, 0.3), abs=1e-12)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_swapping_id_and_ood_mirrors_metrics(ids, oods):
    pairs = [
        (metrics.auroc, metrics.auroc),
        (metrics.aupr_in, metrics.aupr_out),
        (metrics.fpr95_id, metrics.fpr95_ood),
        (metrics.detection_error, metrics.detection_error),
        (metrics.autc, metrics.autc),
    ]
    for one, other in pairs:
        assert one(-oods, -ids) == pytest.approx(other(ids, oods), abs=1e-12)


@settings(deadline=None)
@given(ids=tied_scores, oods=tied_scores)
def test_a_monotone_transform_changes_autc_alone(ids, oods):
    for metric in RANKED:
        if metric is not metrics.autc:
            assert metric(np.exp(ids), np.exp(oods)) == metric(ids, oods)
    assert metrics.autc(3 * ids - 7, 3 * oods - 7) == pytest.approx(metrics.autc(ids, oods))


def test_autc_is_lower_the_further_apart_scores_are():
    ids, oods = np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0])
    assert metrics.autc(ids, oods) == pytest.approx((1 + 1 / 4 - 3.5 / 4) / 2)
    assert metrics.autc(-np.exp(-ids), -np.exp(-oods)) > metrics.autc(ids, oods) + 0.05
    assert metrics.autc([1.0, 1.0], [5.0]) == 0.0
    assert metrics.autc([5.0], [1.0]) == 1.0
    assert metrics.autc([5.0], [5.0, 5.0]) == 0.5


def test_the_detection_error_is_the_least_over_thresholds_rather_than_that_at_95_percent():
    ids, oods = np.arange(100.0), np.arange(60.0, 160.0)
    assert metrics.fpr95_id(ids, oods) == 0.35
    assert metrics.detection_error(ids, oods) == pytest.approx(0.2)
    assert metrics.detection_error(oods, ids) == 0.5


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, float("nan")])
def test_a_share_of_ood_that_leaves_no_other_class_is_refused(prevalence):
    with pytest.raises(
        DataError, match=r"^aupr_out_at: prevalence must be in \(0, 1\), got .*; give"
    ):
        metrics.aupr_out_at([0.0], [1.0], prevalence)


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
