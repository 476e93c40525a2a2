"""Paired tests of detectors that scored the same rows, and which cannot be told from the best.

Scores of two detectors on one row are correlated: their difference is known better than each of
them. All tests are two-sided with the null hypothesis that two detectors have the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from latentood.errors import DataError
from latentood.evaluation.metrics.ranking import Array
from latentood.evaluation.uncertainty.independent import Placements
from latentood.evaluation.uncertainty.resampling import unseen

_PSEUDO = 0.1  # squared difference that a pseudo row adds to each side
_MOST = 0.99  # doubled share of samples across 0: 1 would ask for an infinite error


@dataclass(frozen=True, eq=False)
class Paired:
    """A metric of D detectors on the same rows, and how well its differences are known.

    Attributes:
        values: (D,) the metric.
        errors: (D, D) standard errors > 0 of the differences.
        freedom: (D, D) degrees of freedom of their Student's t.
    """

    values: Array
    errors: Array
    freedom: Array

    @property
    def p_values(self) -> Array:
        """(D, D) two-sided, symmetric; 1 where values are equal, as on the diagonal."""
        gaps = np.abs(self.values[:, None] - self.values)
        p_values: Array = 2 * stdtr(self.freedom, -gaps / self.errors)
        return p_values

    def difference(
        self, first: int, second: int, level: float = 0.95
    ) -> tuple[float, float, float]:
        """Give the value of the first less that of the second, and the interval: (gap, low, high).

        Positive where the first has the higher value. The interval leaves out 0 where the p-value
        is below 1 − level.
        """
        gap = float(self.values[first] - self.values[second])
        quantile = stdtrit(self.freedom[first, second], (1 + level) / 2)
        half = float(quantile * self.errors[first, second])
        return gap, gap - half, gap + half


def paired_auroc(
    id_scores: ArrayLike, ood_sets: Sequence[ArrayLike], weights: Sequence[float] | None = None
) -> Paired:
    """Test the AUROC of detectors, averaged over OOD sets that share ID rows (DeLong et al. 1988).

    The covariance of the detectors follows from their placements, at once for all: that of ID
    rows, averaged over the sets, by n, plus that of the OOD rows of each of S sets by S²·m. It
    gives the standard error of each difference. Departures: the quantile is Student's t with the
    degrees of freedom of Welch & Satterthwaite instead of the normal one; and a pseudo row with a
    squared difference of 0.1 joins each side, 0.1/n² and 0.1/m². Without it a difference that few
    rows make is called significant too often: in 15% instead of 5% of experiments with two AUROCs
    of 0.95, of which one depends on few OOD rows of 30. From about 500 rows on it is without effect
    except where less than about one row of difference decides.

    Args:
        id_scores: (D, n) scores of D detectors for the same n ≥ 2 ID rows, finite.
        ood_sets: For each set (D, m), m ≥ 2, finite.
        weights: Of the sets in the average; default: 1/S each.

    Returns:
        Mean AUROCs, and the errors of their differences.

    Raises:
        DataError: Shapes do not fit, there is no OOD set, fewer than 2 rows of a side, or a score
            is not finite.
    """
    ids = np.asarray(id_scores, np.float64)
    sets = [np.asarray(scores, np.float64) for scores in ood_sets]
    _check(ids, sets)
    placed = [Placements.of(ids[row], [one[row] for one in sets]) for row in range(len(ids))]
    own = np.full(len(sets), 1 / len(sets)) if weights is None else np.asarray(weights)
    values = np.array([one.values @ own for one in placed])
    sides = [np.stack([own @ one.passed for one in placed])]
    sides += [np.stack([one.caught[s] for one in placed]) * w for s, w in enumerate(own)]
    parts = np.stack(
        [
            _squares(side) / side.shape[1] + _PSEUDO * (weight / side.shape[1]) ** 2
            for side, weight in zip(sides, (own.sum(), *own), strict=True)
        ]
    )
    freedom = np.array([side.shape[1] - 1 for side in sides])[:, None, None]
    total = parts.sum(axis=0)
    return Paired(values, np.sqrt(total), total**2 / (parts**2 / freedom).sum(axis=0))


def combined(parts: Sequence[Paired]) -> Paired:
    """Add up values that were measured on independent rows.

    Such are splits with ID rows of their own: standard errors add up by their squares, degrees of
    freedom are those of Welch & Satterthwaite.
    """
    squares = np.stack([one.errors**2 for one in parts])
    total = squares.sum(axis=0)
    freedom = total**2 / (squares**2 / np.stack([one.freedom for one in parts])).sum(axis=0)
    return Paired(np.sum([one.values for one in parts], axis=0), np.sqrt(total), freedom)


def paired_bootstrap(
    values: ArrayLike, drawn: ArrayLike, rows: Sequence[float], metric: str = "fpr95_ood"
) -> Paired:
    """Test a metric of detectors whose bootstrap samples draw the same rows: AUPR or FPR95.

    The standard error of a difference is the root of the variance of its B samples plus what one
    unseen row may change, and the p-value that of Student's t with min(n, m) − 1 degrees of
    freedom. The share of samples on the other side of 0, doubled, would not do alone: with 1000
    samples it is 0 or at least 0.002, so that no difference would survive the correction for 50
    detectors. But where it is above that p-value it counts, by a larger standard error: the FPR95
    of tied scores jumps with the threshold, and a variance says little about whether it does.

    Args:
        values: (D,) the metric of the rows themselves.
        drawn: (D, B) that of the bootstrap samples, from the same
            :class:`~latentood.evaluation.uncertainty.resampling.Resamples`. For an average over
            OOD sets the mean over them, with resamples that share the ID rows.
        rows: n and m; for an average over OOD sets m is
            :func:`~latentood.evaluation.uncertainty.independent.pooled_rows`.
        metric: Its name, for :func:`~latentood.evaluation.uncertainty.resampling.unseen`.

    Raises:
        DataError: Shapes do not fit, or there are fewer than 2 rows of a side.
    """
    points, samples = np.asarray(values, np.float64), np.asarray(drawn, np.float64)
    if samples.ndim != 2 or points.shape != samples.shape[:1]:
        raise DataError(
            f"paired bootstrap: values must be (D,) and drawn (D, B), got {points.shape} and "
            f"{samples.shape}; give one row of samples per detector"
        )
    if min(rows) < 2:
        raise DataError(
            f"paired bootstrap: needs at least 2 rows of each side, got {min(rows):g}; add rows"
        )
    freedom = min(rows) - 1.0
    errors = np.sqrt(_squares(samples) + unseen(metric, *rows))
    crossed = np.stack([(row <= samples).mean(axis=1) for row in samples])
    share = np.minimum(2 * np.minimum(crossed, crossed.T), _MOST)
    gaps = np.abs(points[:, None] - points)
    errors = np.maximum(errors, gaps / -stdtrit(freedom, share / 2))
    return Paired(points, errors, np.full(errors.shape, freedom))


def holm(p_values: ArrayLike) -> Array:
    """Adjust the p-values of k tests so that all of them together have one level (Holm 1979).

    The i-th smallest, from 0, is multiplied by k − i, and made at least the one before it.

    Args:
        p_values: (k,) in [0, 1].

    Returns:
        (k,) adjusted, at most 1: reject where ≤ the level.
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    scaled = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(scaled, 1)
    return adjusted


def holm_against(best: int, p_values: ArrayLike) -> Array:
    """Adjust the p-values (D,) of tests against the best: (D,), NaN for itself and where NaN."""
    raw = np.asarray(p_values, np.float64)
    tested = ~np.isnan(raw)
    tested[best] = False
    adjusted = np.full(raw.size, np.nan)
    adjusted[tested] = holm(raw[tested])
    return adjusted


def indistinguishable(
    values: ArrayLike, p_values: ArrayLike, *, higher_is_better: bool = True, level: float = 0.05
) -> NDArray[np.bool_]:
    """Mark the best detector and all that cannot be told from it.

    Each other detector is tested against the one with the best value; those whose p-value, adjusted
    by :func:`holm` for D − 1 tests, is above the level belong to the group. A detector whose value
    is NaN does not, and is not counted as a test.

    Args:
        values: (D,) the metric.
        p_values: (D, D) two-sided, of :class:`Paired`.
        higher_is_better: False for FPR95 and other errors.
        level: Of all tests together.

    Returns:
        (D,) True for the group; all False where all values are NaN.
    """
    points = np.asarray(values, np.float64) * (1 if higher_is_better else -1)
    if np.isnan(points).all():
        return np.zeros(points.size, np.bool_)
    best = int(np.nanargmax(points))
    against = np.where(np.isnan(points), np.nan, np.asarray(p_values)[best])
    group = holm_against(best, against) > level
    group[best] = True
    return group


def _squares(samples: Array) -> Array:
    """Give the variance of the difference of each two rows: (D, D), without that of their mean."""
    covariance = np.cov(samples).reshape(len(samples), len(samples))
    own = np.diag(covariance)
    # Rounding can push a variance of 0 below it.
    squares: Array = np.maximum(own[:, None] + own - 2 * covariance, 0)
    return squares


def _check(ids: Array, sets: Sequence[Array]) -> None:
    if not sets:
        raise DataError("paired auroc: needs at least one OOD set, got none; give its scores")
    for side, scores in (("ID", ids), *(("OOD", one) for one in sets)):
        if scores.ndim != 2 or len(scores) != len(ids) or scores.shape[1] < 2:
            raise DataError(
                f"paired auroc: {side} scores must be (D, n) with n ≥ 2 for the same D detectors, "
                f"got {scores.shape} beside {ids.shape}; give a row of scores per detector"
            )
