"""How well each ID class is separated from OOD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentood.errors import DataError
from latentood.evaluation.metrics.ranking import (
    Array,
    as_float,
    checked,
    doubled_ranks,
    id_threshold,
)

LEAST_ROWS = 20
"""With fewer rows of a class, a threshold that keeps 95% of them keeps all of them."""


@dataclass(frozen=True)
class ClassMetrics:
    """The rows of one ID class against all OOD rows.

    Beside the class's own metrics, ``flagged`` says what one threshold for all classes does to
    it, that of :func:`latentood.metrics.id_threshold`: it keeps 95% of all ID rows, but of a
    class perhaps fewer.
    """

    n: int  # its rows
    auroc: float
    fpr95_ood: float  # share of its rows at or above the threshold that catches 95% of OOD
    fpr95_id: float  # share of OOD rows at or below the threshold that keeps 95% of its rows
    flagged: float  # share of its rows above the threshold that keeps 95% of all ID rows

    @property
    def few(self) -> bool:
        """Whether it has so few rows, below 20, that its figures say little."""
        return self.n < LEAST_ROWS


def by_class(
    id_scores: ArrayLike, labels: ArrayLike, ood_scores: ArrayLike
) -> dict[int, ClassMetrics]:
    """Compare the ID rows of each class with all OOD rows.

    All metrics are those of :mod:`latentood.metrics` for the rows of one class alone, in
    O((n + m) log (n + m)) for all classes together. The AUROC of all rows is the mean of those of
    the classes, weighted by their rows; so are ``fpr95_ood`` and the share that is flagged.

    Args:
        id_scores: (n,) scores of ID rows, higher = more OOD.
        labels: (n,) their classes, true or predicted, whole numbers.
        ood_scores: (m,) scores of OOD rows.

    Returns:
        Class → its metrics, for every class that has a row, ascending. Those with fewer than 20
        rows are computed as well, and say so (``few``).

    Raises:
        DataError: Scores are not 1-D, empty or not finite, or labels are not one whole number for
            each ID row.
    """
    ids, oods = checked("by_class", id_scores, "ID"), checked("by_class", ood_scores, "OOD")
    classes, place, sizes = _grouped(labels, ids.size)
    above = 1 - doubled_ranks(ids, oods) / (2 * oods.size)  # share of OOD rows above each ID row
    catching = -id_threshold(-oods)  # keeping 95% of negated scores is catching 95% of these
    passed = [above, ids >= catching, ids > id_threshold(ids)]
    means = [np.bincount(place, weights=one) / sizes for one in passed]
    kept = np.searchsorted(np.sort(oods), _thresholds(ids, place, sizes), side="right") / oods.size
    columns = zip(classes, sizes, means[0], means[1], kept, means[2], strict=True)
    return {int(one): ClassMetrics(int(n), *map(float, values)) for one, n, *values in columns}


def _grouped(labels: ArrayLike, rows: int) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Give the classes, the number among them of each row's, and how many rows each has."""
    values = as_float(labels)
    if values.shape != (rows,) or not (np.isfinite(values) & (values == np.floor(values))).all():
        raise DataError(
            f"by_class: labels must be one whole number for each of the {rows} ID scores, got "
            f"shape {values.shape}; give classes, not probabilities"
        )
    return np.unique(values, return_inverse=True, return_counts=True)


def _thresholds(ids: Array, place: NDArray[np.intp], sizes: NDArray[np.intp]) -> Array:
    """Give the lowest score of each class that keeps at least 95% of its rows."""
    ordered = ids[np.lexsort((ids, place))]
    kept = (19 * sizes + 19) // 20  # ⌈0.95 n⌉, free of rounding
    lowest: Array = ordered[np.cumsum(sizes) - sizes + kept - 1]
    return lowest
