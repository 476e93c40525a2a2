"""Intervals of metrics of predictions: coverage by simulation, and the cases at the ends."""

from math import comb
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import log_softmax

from latentood.evaluation.metrics import quality_of
from latentood.evaluation.metrics.predictions import Predictions
from latentood.evaluation.uncertainty.predictions import accuracy_difference, quality_intervals


def drawn(rng, n, shift):
    """Rows whose predictions are right less often than they say, by so much."""
    confidence = rng.beta(8, 2, n).clip(0.2, 1)
    right = rng.random(n) < confidence - shift
    log_p = np.log(confidence)
    return Predictions(right, confidence, 1.0 * ~right, -log_p)


@pytest.mark.parametrize(("n", "shift"), [(100, 0.0), (500, 0.03), (500, 0.1)])
def test_intervals_cover_the_true_values(n, shift):
    rng = np.random.default_rng(0)
    sample = rng.beta(8, 2, 10**6).clip(0.2, 1)
    truth = {
        "accuracy": (sample - shift).mean(),
        "ece": shift,
        "brier": 1 - (sample - shift).mean(),
        "nll": -np.log(sample).mean(),
    }
    rounds = 200
    covered = dict.fromkeys(truth, 0)
    for _ in range(rounds):
        for name, (low, high) in quality_intervals(drawn(rng, n, shift)).items():
            covered[name] += low <= truth[name] <= high
    # 200 rounds: two standard errors of a share of 95% are 3 points.
    assert all(0.89 <= covered[name] / rounds <= 0.995 for name in truth), covered


def test_a_perfect_network_has_no_interval_without_width():
    logits = np.eye(3)[np.arange(60) % 3] * 50
    labels = np.arange(60) % 3
    intervals = quality_intervals(Predictions.of(logits, labels))
    low, high = intervals["accuracy"]
    assert 0.9 < low < 1
    assert high == 1


def test_one_row_says_nothing():
    one = Predictions.of(np.zeros((1, 3)), [0])
    assert quality_intervals(one)["ece"] == (0.0, 1.0)
    assert quality_intervals(one)["nll"] == (-np.inf, np.inf)


def test_rows_joined_have_the_quality_of_all():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(90, 4)), rng.integers(0, 4, 90)
    parts = [Predictions.of(logits[rows], labels[rows]) for rows in (slice(40), slice(40, 90))]
    whole = Predictions.join(parts)
    assert whole.quality() == quality_of(logits, labels)
    assert whole.nll == pytest.approx(-log_softmax(logits, axis=1)[np.arange(90), labels])
    assert Predictions.join([]) is None
    for name, (low, high) in quality_intervals(whole).items():
        assert low <= getattr(whole.quality(), name) <= high, name


def test_a_difference_in_accuracy_has_mcnemars_p_value_and_leaves_out_what_both_have_right():
    one = np.array([True] * 60 + [True] * 12 + [False] * 3 + [False] * 25)
    other = np.array([True] * 60 + [False] * 12 + [True] * 3 + [False] * 25)
    known = accuracy_difference(one, other, paired=True)
    assert known.value == pytest.approx(0.09)
    tail = sum(comb(15, k) for k in range(4)) / 2**15
    assert known.p == pytest.approx(2 * tail)
    assert 0 < known.low < known.value < known.high < 0.2
    apart = accuracy_difference(one, other, paired=False)
    assert apart.high - apart.low > 1.3 * (known.high - known.low)
    assert apart.p > 0.1
    turned = accuracy_difference(other, one, paired=True)
    assert (turned.value, turned.p) == (-known.value, known.p)
    assert accuracy_difference(one, one, paired=True).p == 1.0


@pytest.mark.parametrize(("accuracies", "alike"), [((0.9, 0.85), 0.5), ((0.97, 0.97), 0.9)])
def test_the_interval_of_a_difference_in_accuracy_holds_it(accuracies, alike):
    draw, held = np.random.default_rng(1), []
    limits = [NormalDist().inv_cdf(one) for one in accuracies]
    for _ in range(1000):
        common = draw.normal(size=200)
        seen = [np.sqrt(alike) * common + np.sqrt(1 - alike) * draw.normal(size=200) for _ in "ab"]
        one, other = (values < limit for values, limit in zip(seen, limits, strict=True))
        known = accuracy_difference(one, other, paired=True)
        held.append(known.low <= accuracies[0] - accuracies[1] <= known.high)
    assert 0.93 <= np.mean(held) <= 0.99
