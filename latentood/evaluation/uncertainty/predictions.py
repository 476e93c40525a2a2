"""Intervals of the metrics of predictions, for rows that are independent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit
from scipy.stats import binomtest

from latentood.evaluation.metrics.predictions import Predictions, bin_of
from latentood.evaluation.metrics.ranking import Array
from latentood.evaluation.uncertainty.clustered_metrics import (
    Difference,
    Estimate,
    difference,
    joined,
)

Interval = tuple[float, float]

_BINS = 15
_DRAWS = 1000
_FACTORS: Array = np.linspace(0, 4, 161)


def quality_intervals(rows: Predictions, level: float = 0.95) -> Mapping[str, Interval]:
    """Give intervals of accuracy, ECE, Brier score and NLL, by their names in ``Quality``.

    Of the accuracy it is Jeffreys' for a share, which ends at 0 and 1 where no row, or every row,
    is right; of the Brier score and the NLL, which are means over rows, Student's. The ECE is
    biased upwards, since gaps that are noise add up: an interval by a bootstrap never holds 0. Here
    the gaps of all bins are taken to be those observed times a factor, and the interval holds the
    ECE for every factor with which the observed ECE is not in either tail of its distribution
    (gaps are normal). With 100 to 2,000 rows and true errors of 0 to 0.1 nominal 95% covered
    88–97%.

    Args:
        rows: What is known of each of n rows.
        level: The share of repeated experiments whose interval holds the true value.

    Returns:
        Name → (low, high); of a single row infinite ones, but of shares [0, 1].
    """
    tail = (1 - level) / 2
    right, n = int(rows.right.sum()), rows.right.size
    return {
        "accuracy": _share(right, n, tail),
        "ece": _calibration_error(rows, tail) if n > 1 else (0.0, 1.0),
        "brier": _mean(rows.brier, tail),
        "nll": _mean(rows.nll, tail),
    }


def accuracy_difference(
    one: NDArray[np.bool_], other: NDArray[np.bool_], *, paired: bool, level: float = 0.95
) -> Difference:
    """Compare the accuracy of two models: that of ``one`` less that of ``other``.

    On the same rows the p-value is McNemar's, exact: a two-sided binomial test of the rows that
    only one of them has right. The interval joins Jeffreys' of the two with their correlation
    (method 10 of Newcombe 1998, Statistics in Medicine 17:2635-2650, which has Wilson's, and a
    correction of the correlation that is left out); near 5% it may disagree with the test.

    Args:
        one: (n,) whether a prediction is right.
        other: (m,) the same of the other model; where they are paired in the same order.
        paired: Whether they are of the same rows.
        level: Of the interval.
    """
    tail = (1 - level) / 2
    first, second = (
        Estimate(
            float(right.mean()), *_share(int(right.sum()), right.size, tail),
            right - right.mean(), np.inf, level,
        )
        for right in (one, other)
    )  # fmt: skip
    if not paired:
        return joined(first, second, 0.0)
    known = difference(first, second)
    only, apart = int((one & ~other).sum()), int((one ^ other).sum())
    p_value = float(binomtest(only, apart).pvalue) if apart else 1.0
    return Difference(known.value, known.low, known.high, p_value)


def _share(count: int, of: int, tail: float) -> Interval:
    low = float(betaincinv(count + 0.5, of - count + 0.5, tail)) if count else 0.0
    high = float(betaincinv(count + 0.5, of - count + 0.5, 1 - tail)) if count < of else 1.0
    return low, high


def _mean(values: Array, tail: float) -> Interval:
    n = values.size
    if n < 2 or not np.isfinite(values).all():
        return -np.inf, np.inf
    half = float(stdtrit(n - 1, 1 - tail) * values.std(ddof=1) / np.sqrt(n))
    mean = float(values.mean())
    return max(mean - half, 0.0), mean + half


def _calibration_error(rows: Predictions, tail: float) -> Interval:
    places, n = bin_of(rows.confidence, _BINS), rows.right.size
    gaps = np.bincount(places, rows.confidence - rows.right, _BINS) / n
    # Where all rows of a bin are right, the spread of the gaps is not 0: as confidences say it.
    known = np.maximum(np.bincount(places, minlength=_BINS), 2)
    squares = np.bincount(places, np.square(rows.confidence - rows.right), _BINS)
    observed = (squares - known * np.square(gaps * n / known)) * known / (known - 1)
    claimed = np.bincount(places, rows.confidence * (1 - rows.confidence), _BINS)
    noise = np.sqrt(np.maximum(observed, claimed)) / n
    draws = np.random.default_rng(0).standard_normal((_DRAWS, _BINS)) * noise
    errors = np.stack([np.abs(factor * gaps + draws).sum(axis=1) for factor in _FACTORS])
    value = np.abs(gaps).sum()
    kept = ((errors >= value).mean(axis=1) >= tail) & ((errors <= value).mean(axis=1) >= tail)
    kept[np.searchsorted(_FACTORS, 1)] = True  # the estimate is never outside
    ends = value * _FACTORS[kept][[0, -1]]
    return float(ends[0]), float(min(ends[1], 1.0))
