"""The uncertainty of an AUROC: DeLong's variance by midranks, and intervals from it.

DeLong, DeLong & Clarke-Pearson 1988 write the AUROC as a mean over OOD rows and as a mean over
ID rows of the same comparisons; the spread of these two sets of "placements" gives its
variance. Sun & Xu 2014 (IEEE Signal Processing Letters 21(11)) get the placements from
midranks in O(n log n) instead of n·m comparisons; ties are counted exactly.

Degenerate cases: with a single ID or OOD row the variance cannot be estimated and the
interval is [0, 1]. Where all scores are separated perfectly (or all are equal) every placement
is the same, the variance is 0 and the interval has no width: these rows then give no estimate
of the uncertainty, which does not mean that the number is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from latentood.errors import DataError
from latentood.evaluation.metrics.ranking import Array, checked, doubled_ranks


def auroc_interval(
    id_scores: ArrayLike, ood_scores: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """Give the DeLong interval (low, high) of an AUROC, clipped to [0, 1].

    ``level`` is the share of repeated experiments whose interval holds the true value. Errors are
    those of :func:`mean_auroc`; the module describes degenerate cases.
    """
    _, low, high = mean_auroc(id_scores, [ood_scores], level)
    return low, high


def mean_auroc(
    id_scores: ArrayLike, ood_sets: Sequence[ArrayLike], level: float = 0.95
) -> tuple[float, float, float]:
    """Average the AUROC over OOD sets, each with equal weight: (mean, low, high) in [0, 1].

    The sets are compared with the same ID rows, so their AUROCs are correlated; the interval
    takes that into account.

    Raises:
        DataError: Scores are not 1-D, empty or not finite, there is no OOD set, or the level is
            not in (0, 1).
    """
    if not 0 < level < 1:
        raise DataError(f"auroc interval: level must be in (0, 1), got {level!r}; 0.95 is usual")
    values, covariance = delong_covariance(id_scores, ood_sets)
    mean = float(values.mean())
    if not np.isfinite(covariance).all():
        return mean, 0.0, 1.0
    # Rounding can push a zero variance below 0.
    deviation = float(np.sqrt(max(covariance.mean(), 0.0)))
    half = NormalDist().inv_cdf((1 + level) / 2) * deviation
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def delong_covariance(id_scores: ArrayLike, ood_sets: Sequence[ArrayLike]) -> tuple[Array, Array]:
    """Give the AUROC of several OOD sets against the same ID rows, and their covariance.

    The OOD sets are independent of each other; what their AUROCs share is the ID rows. With
    V_s the (n,) placements of the ID rows among set s, the covariance of sets s and t is
    cov(V_s, V_t)/n, plus on the diagonal the variance of the OOD placements over m_s.

    Returns:
        AUROCs (S,) and covariance (S, S); NaN where one row leaves a variance undefined.
    """
    if not len(ood_sets):
        raise DataError("auroc interval: needs at least one OOD set, got none; give its scores")
    ids = checked("auroc interval", id_scores, "ID")
    sets = [checked("auroc interval", scores, "OOD") for scores in ood_sets]
    caught = [doubled_ranks(oods, ids) / (2 * ids.size) for oods in sets]
    passed = np.stack([1 - doubled_ranks(ids, oods) / (2 * oods.size) for oods in sets])
    values = np.array([placements.mean() for placements in caught])
    if ids.size < 2:
        return values, np.full((len(sets), len(sets)), np.nan)
    shared = np.cov(passed).reshape(len(sets), len(sets)) / ids.size
    own = [v.var(ddof=1) / v.size if v.size > 1 else np.nan for v in caught]
    return values, shared + np.diag(own)
