"""Repeats of one extraction with other seeds: intervals that hold the spread over seeds as well.

What is estimated is the mean of a metric over seeds, for new rows and new seeds. With M repeats on
the same rows, its variance has two parts, as in Rubin 1987 (Multiple Imputation for Nonresponse in
Surveys, sec. 3.1 and eq. 3.1.6): W, the mean of the variances that one repeat has for its rows,
and B, the variance of the values over repeats. Here it is

    T = W + B/M

Departure: Rubin has W + (1 + 1/M)·B. His extra B stands for what the missing values would have
said about the quantity itself; here nothing is missing, seeds are drawn anew and their expectation
is asked for, so that only the error B/M of a mean of M draws is added. (An interval for the value
of one more seed would need (1 + 1/M)·B.) W is never too small: what masks do to single rows is a
part of the spread of rows, and W counts it as one repeat has it, not as the mean of M has.

The quantile is Student's t with Rubin's degrees of freedom ν = (M − 1)·(1 + W·M/B)².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtr, stdtrit

from latentood.evaluation.uncertainty.clustered_metrics import Difference


@dataclass(frozen=True)
class Spread:
    """The variance that a mean over seeds has because of them: B/M, and its degrees of freedom."""

    variance: float = 0.0
    freedom: float = np.inf

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Take the values of M repeats; that of a single one is not known, and 0 here."""
        if len(set(values)) < 2:  # the variance of equal values may be above 0 by rounding
            return cls()
        return cls(float(np.var(values, ddof=1)) / len(values), len(values) - 1)

    def joined(self, other: Spread) -> Spread:
        """Give that of a difference of two means (Welch & Satterthwaite)."""
        total = self.variance + other.variance
        parts = self.variance**2 / self.freedom + other.variance**2 / other.freedom
        return Spread(total, total**2 / parts) if parts else Spread()


def widened(known: Difference, spread: Spread, level: float = 0.95) -> Difference:
    """Add the spread over seeds to a mean over repeats, or to a difference of two such means.

    W is read from the interval, on each of its sides, so that it stays skewed where it was.

    Args:
        known: The mean; the means over repeats of both ends of its interval; its p-value.
        spread: What seeds add.
        level: Of the interval.

    Returns:
        The same with a wider interval and the p-value of T; the same where seeds add nothing.
    """
    if not spread.variance:
        return known
    below, above = (_Side.of(known.value - end, spread, level) for end in (known.low, known.high))
    facing = below if known.value > 0 else above
    p_value = 2 * stdtr(facing.freedom, -abs(known.value) / facing.deviation)
    low, high = known.value - below.half(level), known.value + above.half(level)
    return Difference(known.value, low, high, float(p_value))


@dataclass(frozen=True)
class _Side:
    """One side of an interval: the root of T, and degrees of freedom."""

    deviation: float
    freedom: float

    @classmethod
    def of(cls, gap: float, spread: Spread, level: float) -> _Side:
        within = (gap / NormalDist().inv_cdf((1 + level) / 2)) ** 2
        total = within + spread.variance
        return cls(float(np.sqrt(total)), spread.freedom * (total / spread.variance) ** 2)

    def half(self, level: float) -> float:
        return float(stdtrit(self.freedom, (1 + level) / 2)) * self.deviation
