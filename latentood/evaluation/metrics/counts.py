"""The metrics of scores that are given as counts: how many members have each distinct score.

Conventions and definitions are those of :mod:`latentood.evaluation.metrics`: a higher score means
more OOD, OOD is the positive class, members of equal score pass a threshold together. Functions
take the counts of ID members (K, …) and of OOD members (K, …), integers ≥ 0, by ascending score;
each further axis is a case of its own, as the resamples of a bootstrap. They compute in float64,
in O(K), and give arrays of the further axes. Where a class has no member the value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Metric: TypeAlias = Callable[[Counts, Counts], Array]


def as_array(values: Any) -> NDArray[Any]:
    """Take a tensor, an array or a list as an array, in its own type."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def auroc(ids: Counts, oods: Counts) -> Array:
    """Give the probability that an OOD member scores higher than an ID member; a tie counts ½."""
    caught = (oods * placements(ids)).sum(axis=0)
    return _share(caught, oods.sum(axis=0))


def aupr_out(ids: Counts, oods: Counts) -> Array:
    """Give the average precision with OOD as the positive class."""
    return _average_precision(ids[::-1], oods[::-1])


def aupr_in(ids: Counts, oods: Counts) -> Array:
    """Give the average precision with ID as the positive class (scores negated)."""
    return _average_precision(oods, ids)


def fpr95_ood(ids: Counts, oods: Counts) -> Array:
    """Give the share of ID members at or above the threshold that catches 95% of OOD."""
    return _false_alarms(ids[::-1], oods[::-1])


def fpr95_id(ids: Counts, oods: Counts) -> Array:
    """Give the share of OOD members at or below the threshold that keeps 95% of ID."""
    return _false_alarms(oods, ids)


METRICS: Mapping[str, Metric] = {
    one.__name__: one for one in (auroc, aupr_out, aupr_in, fpr95_ood, fpr95_id)
}
"""All metrics by name, as in the results file."""


def placements(counts: Counts) -> Array:
    """Give, for every score, the share of members below it plus half of those at it: (K, …)."""
    below = np.cumsum(counts, axis=0)
    return _share(below - counts / 2, below[-1])


def _average_precision(negatives: Counts, positives: Counts) -> Array:
    """Average the precision over the gains in recall; scores in the order that they pass."""
    hits = np.cumsum(positives, axis=0)
    passed = np.maximum(hits + np.cumsum(negatives, axis=0), 1)  # before the first member it is 0
    return _share((hits / passed * positives).sum(axis=0), hits[-1], negatives.sum(axis=0))


def _false_alarms(negatives: Counts, positives: Counts) -> Array:
    """Give the share of negatives that have passed when 95% of the positives have."""
    hits = np.cumsum(positives, axis=0)
    needed = (19 * hits[-1] + 19) // 20  # ⌈0.95 m⌉, free of rounding
    last = np.minimum((hits < needed).sum(axis=0), len(hits) - 1)
    passed = np.cumsum(negatives, axis=0)
    reached = np.take_along_axis(passed, np.asarray(last)[None], axis=0)[0]
    return _share(reached, passed[-1], hits[-1])


def _share(part: Any, whole: Any, other: Any = 1) -> Array:
    """Divide; NaN where there is nothing to divide by, or nothing of the other class."""
    known = (whole > 0) & (np.asarray(other) > 0)
    result: Array = np.where(known, part, np.nan) / np.where(known, whole, 1)
    return result
