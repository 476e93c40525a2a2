"""Selective prediction against slow formulas, and against what theory says about it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from latentood import metrics
from latentood.errors import DataError
from tests.references import selective as slow

AREAS = [metrics.aurc, metrics.excess_aurc, metrics.augrc]
METRICS = [*AREAS, lambda *args, **more: metrics.risk_at(*args[:2], 0.3, *args[2:], **more)]

# Few distinct scores, so that ties are the rule.
score = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e3, 1e3))
rows = st.lists(st.tuples(score, st.booleans()), min_size=1, max_size=25)


def apart(pairs):
    scores, right = zip(*pairs, strict=True)
    return np.array(scores), np.array(right)


@settings(deadline=None, max_examples=30)
@given(pairs=rows)
def test_areas_are_those_of_the_slow_formulas(pairs):
    scores, right = apart(pairs)
    ones = np.ones(len(scores))
    assert metrics.aurc(scores, right) == pytest.approx(slow.aurc(scores, right, ones), abs=1e-8)
    assert metrics.augrc(scores, right) == pytest.approx(slow.augrc(scores, right, ones), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    pairs=rows,
    oods=st.lists(score, min_size=1, max_size=15),
    prevalence=st.sampled_from([None, 0.01, 0.5, 0.9]),
    coverage=st.sampled_from([0.05, 0.5, 0.77, 1.0]),
)
def test_accepted_ood_rows_are_wrong_and_weigh_their_share(pairs, oods, prevalence, coverage):
    scores, right = apart(pairs)
    every = np.concatenate([scores, oods])
    good = np.append(right, np.zeros(len(oods), bool))
    share = len(oods) / len(every) if prevalence is None else prevalence
    weights = np.repeat([(1 - share) / len(scores), share / len(oods)], [len(scores), len(oods)])
    given_ = (scores, right, oods)
    expected = slow.aurc(every, good, weights)
    assert metrics.aurc(*given_, prevalence=prevalence) == pytest.approx(expected, abs=1e-8)
    expected = slow.augrc(every, good, weights)
    assert metrics.augrc(*given_, prevalence=prevalence) == pytest.approx(expected, abs=1e-12)
    expected = slow.errors_at(coverage, every, good, weights) / coverage
    risk = metrics.risk_at(scores, right, coverage, oods, prevalence=prevalence)
    assert risk == pytest.approx(expected, abs=1e-12)


def test_the_area_is_the_limit_of_the_mean_over_coverages_of_the_paper():
    draw = np.random.default_rng(0)
    for _ in range(5):
        scores, right = draw.integers(0, 8, 30).astype(float), draw.random(30) < 0.7
        value = metrics.aurc(scores, right)
        gaps = [
            abs(value - slow.aurc_of_the_paper(np.repeat(scores, n), np.repeat(right, n)))
            for n in (1, 10, 40)
        ]
        assert gaps[2] < gaps[1] / 3 < gaps[0] / 10
        assert gaps[2] < 0.002


@pytest.mark.parametrize("wrong", [0, 1, 7, 40, 50])
def test_a_perfect_order_has_the_best_area_and_no_excess(wrong):
    scores, right = np.arange(50.0), np.arange(50) < 50 - wrong
    rate = wrong / 50
    best = rate + ((1 - rate) * np.log(1 - rate) if rate < 1 else 0)
    assert metrics.aurc(scores, right) == pytest.approx(best, abs=1e-12)
    assert 0 <= metrics.excess_aurc(scores, right) < 1e-12
    assert metrics.augrc(scores, right) == pytest.approx(rate**2 / 2, abs=1e-12)
    assert metrics.excess_aurc(-scores, right) >= metrics.excess_aurc(scores, right)


@settings(deadline=None)
@given(pairs=rows)
def test_the_generalized_area_follows_from_accuracy_and_auroc(pairs):
    scores, right = apart(pairs)
    assume(0 < right.sum() < len(right))
    rate = 1 - right.mean()
    auroc = roc_auc_score(~right, scores)
    expected = rate * (1 - rate) * (1 - auroc) + rate**2 / 2
    assert metrics.augrc(scores, right) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(pairs=rows)
def test_ranges_hold_and_equal_scores_give_the_error_rate(pairs):
    scores, right = apart(pairs)
    rate = 1 - right.mean()
    assert 0 <= metrics.excess_aurc(scores, right) <= metrics.aurc(scores, right) + 1e-12
    assert metrics.aurc(scores, right) <= 1 + 1e-12
    generalized = metrics.augrc(scores, right)
    assert rate**2 / 2 - 1e-12 <= generalized <= rate - rate**2 / 2 + 1e-12
    equal = np.zeros(len(scores))
    assert metrics.aurc(equal, right) == pytest.approx(rate)
    assert metrics.augrc(equal, right) == pytest.approx(rate / 2)
    assert metrics.risk_at(equal, right, 0.01) == pytest.approx(rate)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_rows_and_a_monotone_transform_change_nothing(metric):
    draw = np.random.default_rng(1)
    scores, right = draw.integers(0, 9, 200).astype(float), draw.random(200) < 0.8
    oods = draw.integers(4, 14, 90).astype(float)
    value = metric(scores, right, oods, prevalence=0.2)
    for _ in range(5):
        order, other = draw.permutation(200), draw.permutation(90)
        again = metric(scores[order], right[order], oods[other], prevalence=0.2)
        assert again == value
    assert metric(np.exp(scores), right, np.exp(oods), prevalence=0.2) == value
    twice = metric(np.tile(scores, 2), np.tile(right, 2), np.tile(oods, 3), prevalence=0.2)
    assert twice == pytest.approx(value, abs=1e-12)
    tensors = metric(torch.tensor(scores), torch.tensor(right), torch.tensor(oods), prevalence=0.2)
    assert tensors == value


@pytest.mark.parametrize("metric", METRICS)
def test_the_share_that_rows_have_is_what_they_weigh_without_prevalence(metric):
    draw = np.random.default_rng(2)
    scores, right, oods = draw.random(60), draw.random(60) < 0.9, draw.random(40) + 0.3
    assert metric(scores, right, oods) == pytest.approx(
        metric(scores, right, oods, prevalence=0.4), abs=1e-12
    )
    more = metric(scores, right, oods, prevalence=0.6)
    assert abs(more - metric(scores, right, oods)) > 0.005


def test_the_curve_has_one_point_for_each_score_and_ends_with_the_error_rate():
    curve = metrics.risk_coverage([2, 1, 2, 5], [True, True, False, False])
    assert curve.threshold.tolist() == [1, 2, 5]
    assert curve.coverage.tolist() == [0.25, 0.75, 1]
    assert curve.risk == pytest.approx([0, 1 / 3, 1 / 2])
    # Half of the coverage between the first two points is half of the error there.
    assert metrics.risk_at([2, 1, 2, 5], [True, True, False, False], 0.5) == pytest.approx(0.5 / 2)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (([0.0, 1.0], [True]), r"^aurc: right must be one truth value for each of the 2 ID scores"),
        (([0.0], [0.5]), r"got shape \(1,\) with values from 0 to 0.5; compare predictions"),
        (([0.0, np.nan], [True, True]), r"^aurc: ID scores must be finite, got nan in row 1"),
        (([0.0], [True], []), r"^aurc: OOD scores must be \(n,\)"),
    ],
)
def test_what_says_nothing_about_right_and_wrong_is_refused(given_, message):
    with pytest.raises(DataError, match=message):
        metrics.aurc(*given_)


def test_impossible_shares_are_refused():
    with pytest.raises(DataError, match=r"^augrc: prevalence must be in \(0, 1\), got 1.0; give"):
        metrics.augrc([0.0], [True], [1.0], prevalence=1.0)
    with pytest.raises(DataError, match=r"^aurc: prevalence must stand beside OOD scores, got 0.5"):
        metrics.aurc([0.0], [True], prevalence=0.5)
    with pytest.raises(DataError, match=r"^risk_at: coverage must be in \(0, 1\], got 0; give the"):
        metrics.risk_at([0.0], [True], 0)
