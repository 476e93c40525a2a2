"""How well scores separate OOD from ID.

One convention everywhere: a higher score means more OOD, and OOD is the positive class. Functions
of scores take those of ID rows (n,) first and of OOD rows (m,) second, as NumPy arrays, torch
tensors or lists; they compute in float64, in O(n log n), and equal scores are counted exactly.
Scores that are not 1-D, empty or not finite are a :class:`DataError`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentood.errors import DataError
from latentood.evaluation.metrics import counts

Array: TypeAlias = NDArray[np.float64]


def auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the probability that an OOD row scores higher than an ID row.

    The area under the ROC curve by the Mann-Whitney count; a tie counts one half.

    Returns:
        A share in [0, 1]; 1 is perfect, 0.5 is chance.
    """
    ids, oods = _pair("auroc", id_scores, ood_scores)
    return float(doubled_ranks(oods, ids).sum()) / (2 * ids.size * oods.size)


def aupr_out(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the average precision with OOD as the positive class.

    The sum over thresholds of precision times the gain in recall, without interpolation. Its
    chance level is the share of OOD rows, so it compares only at equal numbers of rows.

    Returns:
        A share in [0, 1].
    """
    _, (ids, oods) = counts.table(*_pair("aupr_out", id_scores, ood_scores))
    return float(counts.aupr_out(ids, oods))


def aupr_in(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the average precision with ID as the positive class (scores negated).

    Returns:
        A share in [0, 1].
    """
    _, (ids, oods) = counts.table(*_pair("aupr_in", id_scores, ood_scores))
    return float(counts.aupr_in(ids, oods))


def fpr95_ood(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the share of ID rows at or above the threshold that catches 95% of OOD.

    The threshold is the highest score at or above which at least 95% of the OOD rows lie. Not
    to be confused with :func:`fpr95_id`; the two differ by tens of points.

    Returns:
        A share in [0, 1]; 0 is perfect.
    """
    return _false_alarms(*_pair("fpr95_ood", id_scores, ood_scores))


def fpr95_id(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the share of OOD rows accepted at the threshold that keeps 95% of ID.

    The threshold is the lowest score at or below which at least 95% of the ID rows lie; a row
    is accepted as ID at or below it. Not to be confused with :func:`fpr95_ood`.

    Returns:
        A share in [0, 1]; 0 is perfect.
    """
    ids, oods = _pair("fpr95_id", id_scores, ood_scores)
    return _false_alarms(-oods, -ids)


def detection_error(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the least mean of the two error rates over all thresholds.

    min over t of ½ · share of OOD rows below t + ½ · share of ID rows at or above t: the error
    rate of the best threshold where ID and OOD are equally frequent. 1 minus it is the detection
    accuracy of Lee et al. 2018, arXiv:1807.03888, and it is what the code of Liang et al. 2018
    (ODIN, arXiv:1706.02690) prints. Tables that have the same mean at the threshold that keeps
    95% of ID instead show ½ · 0.05 + ½ · :func:`fpr95_id`. The threshold is chosen on the rows
    that are counted, so that few rows look better than they are.

    Returns:
        A share in [0, 0.5]; 0 is perfect, 0.5 is chance (or the wrong sign).
    """
    _, (ids, oods) = counts.table(*_pair("detection_error", id_scores, ood_scores))
    return float(counts.detection_error(ids, oods))


def aupr_out_at(id_scores: ArrayLike, ood_scores: ArrayLike, prevalence: float = 0.5) -> float:
    """Give the average precision with OOD as the positive class, at a given share of OOD.

    :func:`aupr_out` of rows with weights, such that OOD has the share π of all weight: the
    precision at a threshold is π·TPR / (π·TPR + (1 − π)·FPR), with the shares TPR of OOD rows and
    FPR of ID rows at or above it. Other than :func:`aupr_out` it can be compared between sets of
    different sizes. With the share that the rows have, it is :func:`aupr_out`.

    Args:
        id_scores: (n,) scores of ID rows.
        ood_scores: (m,) scores of OOD rows.
        prevalence: π, in (0, 1).

    Returns:
        A share in (0, 1]; 1 is perfect, equal scores give π.

    Raises:
        DataError: Scores are not as the module says, or π is not in (0, 1).
    """
    check_prevalence("aupr_out_at", prevalence)
    _, (ids, oods) = counts.table(*_pair("aupr_out_at", id_scores, ood_scores))
    return float(counts.aupr_out_at(ids, oods, prevalence))


def autc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Give the area under the threshold curves: how far apart ID and OOD scores are.

    Humblot-Renaux, Escalera & Moeslund 2023, arXiv:2306.14658: the mean of the areas under FPR
    (the share of ID rows at or above a threshold) and FNR (that of OOD rows below it) as functions
    of the threshold, from 0 to 1. The curves are steps, whose areas are exactly the mean ID score
    and 1 minus the mean OOD score: AUTC = ½ · (1 + mean ID − mean OOD).

    Scores are scaled to [0, 1] by the lowest and the highest of ID and OOD together, so that a
    factor or an offset changes nothing. Any other monotone transform does, unlike all other
    metrics here, and so does one extreme row: compare detectors by it with care.

    Departures: the authors' code expects scores in [0, 1] and drops others, and takes trapezoids
    in the place of steps, which differ by less than the largest gap between scores.

    Returns:
        A share in [0, 1]; 0 where all ID scores are equal, and all OOD scores above them; 0.5
        where the means do not differ.
    """
    scores, (ids, oods) = counts.table(*_pair("autc", id_scores, ood_scores))
    return float(counts.autc(ids, oods, scores))


def id_threshold(id_scores: ArrayLike) -> float:
    """Give the threshold of :func:`fpr95_id`: rows above it are taken for OOD.

    Args:
        id_scores: (n,) scores of ID rows, higher = more OOD.

    Returns:
        The lowest of them at or below which at least 95% of them lie.
    """
    return -_catching(-checked("id_threshold", id_scores, "ID"))


def check_prevalence(who: str, prevalence: float) -> None:
    """Refuse a share of OOD that leaves one class without weight."""
    if not 0 < prevalence < 1:
        raise DataError(
            f"{who}: prevalence must be in (0, 1), got {prevalence!r}; give the share of OOD among "
            "all inputs"
        )


def checked(who: str, scores: ArrayLike, side: str) -> Array:
    """Bring scores of one side, ``ID`` or ``OOD``, into float64 and refuse what has no rank."""
    values = as_float(scores)
    if values.ndim != 1 or values.size == 0:
        raise DataError(
            f"{who}: {side} scores must be (n,) with n ≥ 1, got shape {values.shape}; "
            "give one score per row"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"{who}: {side} scores must be finite, got {values[row]} in row {row}; "
            "look at that input or at the detector"
        )
    return values


def doubled_ranks(scores: Array, reference: Array) -> NDArray[np.int64]:
    """Count twice the reference values below each score, plus once those equal to it.

    Twice the midrank of a score among n reference values is an integer from 0 to 2n, so that no
    rounding enters however many ties there are.
    """
    ordered = np.sort(reference)
    # Searching sorted values walks memory in order: several times faster than in random order.
    order = np.argsort(scores)
    ranks = np.empty(scores.size, dtype=np.int64)
    queries = scores[order]
    below = np.searchsorted(ordered, queries, side="left")
    ranks[order] = below + np.searchsorted(ordered, queries, side="right")
    return ranks


def _pair(who: str, id_scores: ArrayLike, ood_scores: ArrayLike) -> tuple[Array, Array]:
    return checked(who, id_scores, "ID"), checked(who, ood_scores, "OOD")


def as_float(values: Any) -> Array:
    """Take a tensor, an array or a list as a float64 array."""
    if hasattr(values, "detach"):  # a torch tensor: perhaps on a GPU, perhaps bfloat16
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _false_alarms(negatives: Array, positives: Array) -> float:
    return float(np.mean(negatives >= _catching(positives)))


def _catching(positives: Array) -> float:
    """Give the highest score at or above which at least 95% lie."""
    needed = (19 * positives.size + 19) // 20  # ⌈0.95 m⌉, free of rounding
    return float(np.partition(positives, positives.size - needed)[positives.size - needed])
