"""What a network gets wrong if it leaves the most doubtful inputs to others: selective prediction.

A score says how doubtful a row is (higher = more doubtful): the rows at or below a threshold are
accepted, the others are rejected. *Coverage* is the share of all rows that are accepted, *risk*
the share of wrong ones among the accepted. Rows of equal score are accepted in random order, so
that errors grow linearly with coverage between two scores: no value depends on the order of rows.

With OOD scores it is selective classification in the presence of OOD (SCOD; Xia & Bouganis 2022,
arXiv:2207.07506; the new-class failures of Jaeger et al. 2023, arXiv:2211.15259): an OOD row that
is accepted is wrong. ``prevalence`` weighs the rows such that OOD has this share of all weight; by
default each row counts once. A wrong ID row and an OOD row cost the same (Xia & Bouganis can
weigh them).

Right against wrong rows as a detection, without coverage, is
``auroc(scores[right], scores[~right])``.

Functions take the scores of ID rows (n,), whether each is right (n,), and scores of OOD rows (m,),
as NumPy arrays, torch tensors or lists. They compute in float64, in O(n log n). All raise a
:class:`DataError` where scores are not 1-D, empty or not finite, where ``right`` is not one truth
value per row, or where ``prevalence`` is not in (0, 1) or stands without OOD scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latentood.errors import DataError
from latentood.evaluation.metrics import counts
from latentood.evaluation.metrics.ranking import Array, as_float, check_prevalence, checked


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The risk at each coverage that a threshold can reach, K of them."""

    threshold: Array  # (K,) ascending: rows at or below it are accepted
    coverage: Array  # (K,) in (0, 1], ascending to 1
    risk: Array  # (K,) in [0, 1]; the last is the share of all rows that are wrong


def risk_coverage(
    id_scores: ArrayLike,
    right: ArrayLike,
    ood_scores: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> RiskCoverage:
    """Give the risk-coverage curve, one point for each distinct score.

    El-Yaniv & Wiener 2010 (JMLR 11:1605-1641). Between two points the product of risk and coverage
    is linear.
    """
    scores, rights, wrongs = _weights("risk_coverage", id_scores, right, ood_scores, prevalence)
    accepted = np.cumsum(rights + wrongs)
    return RiskCoverage(scores, accepted / accepted[-1], np.cumsum(wrongs) / accepted)


def risk_at(
    id_scores: ArrayLike,
    right: ArrayLike,
    coverage: float,
    ood_scores: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> float:
    """Give the risk at a fixed coverage.

    Args:
        id_scores: (n,) scores of ID rows.
        right: (n,) whether each prediction is right.
        coverage: The share of all rows (of all weight) that is accepted, in (0, 1].
        ood_scores: (m,) scores of OOD rows.
        prevalence: Their share of all weight.

    Returns:
        A share in [0, 1]; 0 is perfect. Where the coverage lies within rows of equal score, it is
        the expected share of wrong ones if some of them are accepted at random.

    Raises:
        DataError: As the module says, or the coverage is not in (0, 1].
    """
    if not 0 < coverage <= 1:
        raise DataError(
            f"risk_at: coverage must be in (0, 1], got {coverage!r}; give the share of inputs to "
            "accept"
        )
    curve = risk_coverage(id_scores, right, ood_scores, prevalence=prevalence)
    accepted, errors = curve.coverage, curve.risk * curve.coverage
    return float(np.interp(coverage, [0, *accepted], [0, *errors])) / coverage


def aurc(
    id_scores: ArrayLike,
    right: ArrayLike,
    ood_scores: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> float:
    """Give the area under the risk-coverage curve: the mean risk over all coverages.

    Geifman, Uziel & El-Yaniv 2019, arXiv:1805.08206. Departure: the paper averages the risk at the
    n coverages i/n, which has no meaning for weights and depends on the order of rows of equal
    score. Here the curve is integrated over (0, 1], with errors that grow linearly with coverage
    within a score; the difference is of the order (log n)/n, and :func:`excess_aurc` needs no
    approximation. Rows that all stand twice change nothing.

    Returns:
        A share in [0, 1]; 0 is perfect. Equal scores give the share of wrong rows.
    """
    return float(counts.aurc(*_weights("aurc", id_scores, right, ood_scores, prevalence)[1:]))


def excess_aurc(
    id_scores: ArrayLike,
    right: ArrayLike,
    ood_scores: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> float:
    """Give the AURC less the one that the same errors have if all are rejected first (E-AURC).

    Geifman, Uziel & El-Yaniv 2019, arXiv:1805.08206: the best AURC with a share r of wrong rows is
    r + (1 − r)·ln(1 − r). There it is an approximation; of :func:`aurc` here it is exact.

    Returns:
        A share in [0, 1); 0 where all wrong rows score above all right ones.
    """
    sides = _weights("excess_aurc", id_scores, right, ood_scores, prevalence)[1:]
    return float(counts.excess_aurc(*sides))


def augrc(
    id_scores: ArrayLike,
    right: ArrayLike,
    ood_scores: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> float:
    """Give the area under the generalized-risk-coverage curve: the mean risk of silent failure.

    Traub et al. 2024, arXiv:2407.01032: the generalized risk is the share of all rows that are
    both wrong and accepted. With the share r of wrong rows its area is
    r·(1 − r)·(1 − AUROC) + r²/2, where AUROC is that of wrong against right rows (a tie counts ½).
    The AURC gives most weight to the few rows with the lowest scores; this gives all the same.
    Values are shares; the authors' code prints a thousandth as 1.

    Returns:
        A share in [r²/2, r − r²/2]; low is good. Equal scores give r/2.
    """
    return float(counts.augrc(*_weights("augrc", id_scores, right, ood_scores, prevalence)[1:]))


def _weights(
    who: str,
    id_scores: ArrayLike,
    right: ArrayLike,
    ood_scores: ArrayLike | None,
    prevalence: float | None,
) -> tuple[Array, Array, Array]:
    """Give the distinct scores (K,), ascending, and the weights of right and wrong rows there."""
    ids, hits = checked(who, id_scores, "ID"), as_float(right)
    if hits.shape != ids.shape or not np.isin(hits, (0, 1)).all():
        raise DataError(
            f"{who}: right must be one truth value for each of the {ids.size} ID scores, got shape "
            f"{hits.shape} with values from {hits.min(initial=0):g} to {hits.max(initial=0):g}; "
            "compare predictions with labels"
        )
    if ood_scores is None and prevalence is not None:
        raise DataError(
            f"{who}: prevalence must stand beside OOD scores, got {prevalence!r} without them; "
            "give ood_scores"
        )
    oods = np.empty(0) if ood_scores is None else checked(who, ood_scores, "OOD")
    scores, sides = counts.table(ids[hits == 1], ids[hits == 0], oods)
    rights, wrongs, others = (side.astype(np.float64) for side in sides)
    if prevalence is None:
        return scores, rights, wrongs + others
    check_prevalence(who, prevalence)
    one, other = (1 - prevalence) / ids.size, prevalence / oods.size
    return scores, rights * one, wrongs * one + others * other
