"""The metrics of scores that are given as counts: how many members have each distinct score.

Conventions and definitions are those of :mod:`latentood.evaluation.metrics`: a higher score means
more OOD, OOD is the positive class, members of equal score pass a threshold together. Functions
take the counts of ID members (K, …) and of OOD members (K, …), integers ≥ 0, by ascending score;
each further axis is a case of its own, as the resamples of a bootstrap. They compute in float64,
in O(K), and give arrays of the further axes. Where a class has no member the value is NaN.

:func:`aurc`, :func:`excess_aurc` and :func:`augrc` take the counts of right and of wrong members
instead, or weights of them; there NaN stands only where there are neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = Counts | Array
Metric: TypeAlias = Callable[[Counts, Counts], Array]


def as_array(values: Any) -> NDArray[Any]:
    """Take a tensor, an array or a list as an array, in its own type."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def table(*sides: Array) -> tuple[Array, list[Counts]]:
    """Count how many members of each side, (n,) scores each, have each distinct score.

    Returns:
        The K distinct scores of all sides, ascending, (K,), and for each side its counts (K,).
    """
    scores, place = np.unique(np.concatenate(sides), return_inverse=True)
    ends = np.cumsum([side.size for side in sides])[:-1]
    return scores, [np.bincount(part, minlength=scores.size) for part in np.split(place, ends)]


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


def detection_error(ids: Counts, oods: Counts) -> Array:
    """Give the least mean of the two error rates over all thresholds."""
    missed = _share(np.cumsum(oods, axis=0), oods.sum(axis=0))
    kept = _share(np.cumsum(ids, axis=0), ids.sum(axis=0))
    least: Array = ((missed + 1 - kept) / 2).min(axis=0)
    return least


def aupr_out_at(ids: Counts, oods: Counts, prevalence: float = 0.5) -> Array:
    """Give the average precision with OOD as the positive class, at this share of OOD."""
    caught = _share(np.cumsum(oods[::-1], axis=0), oods.sum(axis=0))
    alarms = _share(np.cumsum(ids[::-1], axis=0), ids.sum(axis=0))
    hits, gained = prevalence * caught, np.diff(caught, axis=0, prepend=0)
    passed = hits + (1 - prevalence) * alarms
    precision = np.divide(hits, passed, out=np.zeros_like(hits), where=passed != 0)
    mean: Array = (precision * gained).sum(axis=0)
    return mean


def autc(ids: Counts, oods: Counts, scores: Array) -> Array:
    """Give the area under the threshold curves; needs the distinct scores (K,), ascending.

    They are scaled by the lowest and the highest that has a member, in each case for itself.
    """
    steps = (scores - scores[0]).reshape(-1, *(1,) * (ids.ndim - 1))  # no digits lost to an offset
    there = ids + oods > 0
    low = np.where(there, steps, np.inf).min(axis=0)
    high = np.where(there, steps, -np.inf).max(axis=0)
    means = [_share((side * steps).sum(axis=0), side.sum(axis=0)) for side in (ids, oods)]
    width = np.where(high > low, high - low, 1)  # with equal scores the means are equal too
    area: Array = (1 + (means[0] - means[1]) / width) / 2
    return area


def metrics_at(prevalence: float = 0.5) -> Mapping[str, Metric]:
    """Give all metrics by name, as in the results file, but for the AUTC, which needs scores."""
    ranked = (auroc, aupr_out, aupr_in, fpr95_ood, fpr95_id, detection_error)
    fixed = partial(aupr_out_at, prevalence=prevalence)
    return {one.__name__: one for one in ranked} | {"aupr_out_at": fixed}


METRICS = metrics_at()
"""Those with OOD and ID equally frequent in ``aupr_out_at``."""


def aurc(rights: Weights, wrongs: Weights) -> Array:
    """Give the area under the risk-coverage curve."""
    before, earlier, accepted, errors = _selected(rights, wrongs)
    gained = accepted - before
    # From one score to the next, errors at coverage c are b + s(c − a); their ratio to c is
    # integrated over c.
    slope = np.divide(errors - earlier, gained, out=np.zeros_like(gained), where=gained > 0)
    started = before > 0
    ratio = np.divide(accepted, before, out=np.ones_like(before), where=started)
    curved = np.where(started, earlier - slope * before, 0) * np.log(ratio)
    area: Array = errors[-1] + curved.sum(axis=0)
    return area


def excess_aurc(rights: Weights, wrongs: Weights) -> Array:
    """Give the AURC less that of scores that rank all right members below all wrong ones."""
    right = _share(rights.sum(axis=0), (rights + wrongs).sum(axis=0))
    best = 1 - right + right * np.log(np.where(right > 0, right, 1))
    # Rounding can push a difference of 0 below it.
    excess: Array = np.maximum(aurc(rights, wrongs) - best, 0)
    return excess


def augrc(rights: Weights, wrongs: Weights) -> Array:
    """Give the area under the generalized-risk-coverage curve."""
    before, earlier, accepted, errors = _selected(rights, wrongs)
    area: Array = ((earlier + errors) / 2 * (accepted - before)).sum(axis=0)
    return area


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


def _selected(rights: Weights, wrongs: Weights) -> tuple[Array, Array, Array, Array]:
    """Give shares of all members below each score, (accepted, wrong), and then up to it."""
    members = rights + wrongs
    whole = members.sum(axis=0)
    accepted, errors = np.cumsum(members, axis=0), np.cumsum(wrongs, axis=0)
    return (
        _share(accepted - members, whole),
        _share(errors - wrongs, whole),
        _share(accepted, whole),
        _share(errors, whole),
    )


def _share(part: Any, whole: Any, other: Any = 1) -> Array:
    """Divide; NaN where there is nothing to divide by, or nothing of the other class."""
    known = (whole > 0) & (np.asarray(other) > 0)
    result: Array = np.where(known, part, np.nan) / np.where(known, whole, 1)
    return result
