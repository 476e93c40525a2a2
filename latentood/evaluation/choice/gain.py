"""By how much one setting is better than another on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from latentood.evaluation.choice.trials import measured
from latentood.evaluation.choice.wish import Criterion
from latentood.evaluation.metrics import Array
from latentood.evaluation.uncertainty.paired import paired_auroc

Scores = Mapping[str, tuple[Array, Array]]
"""Set → scores of ID and of OOD rows."""


@dataclass(frozen=True)
class Gain:
    """A difference of two values, with its 95% interval and p-value where they are known."""

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def gain(
    old: Scores,
    new: Scores,
    criterion: Criterion,
    *,
    ids: Mapping[str, int] | None = None,
    independent: bool = True,
) -> Gain:
    """Compare two settings by the mean of the criterion over the same sets: new − old.

    The interval and the two-sided p-value are those of :func:`paired_auroc`; sets with ID rows of
    their own are independent of the others, and their variances add up, with the degrees of
    freedom of Welch and Satterthwaite. There are none for members of images, for other criteria
    than the AUROC, and with a single row of a side.

    Args:
        old: Set → scores by the one setting.
        new: Set → scores by the other.
        criterion: What is averaged.
        ids: Set → which ID rows it is compared with; default: all with the same ones.
        independent: Whether rows are independent of each other.
    """
    values = [measured(criterion, *new[name]) - measured(criterion, *old[name]) for name in old]
    mean = float(np.mean(values))
    least = min(side.size for pair in old.values() for side in pair)
    if criterion != "auroc" or not independent or least < 2:
        return Gain(mean)
    variances, freedoms = np.array(list(_parts(old, new, ids or dict.fromkeys(old, 0)))).T
    variance = variances.sum()
    freedom = variance**2 / (variances**2 / freedoms).sum()
    error = float(np.sqrt(variance))
    half = float(stdtrit(freedom, 0.975)) * error
    p_value = float(2 * stdtr(freedom, -abs(mean) / error))
    return Gain(mean, max(mean - half, -1.0), min(mean + half, 1.0), p_value)


def _parts(old: Scores, new: Scores, ids: Mapping[str, int]) -> Iterator[tuple[float, float]]:
    """Give the variance and its degrees of freedom that sets with the same ID rows add."""
    for which in dict.fromkeys(ids[name] for name in old):
        names = [name for name in old if ids[name] == which]
        pair = paired_auroc(
            np.stack([old[names[0]][0], new[names[0]][0]]),
            [np.stack([old[name][1], new[name][1]]) for name in names],
        )
        weight = len(names) / len(old)
        yield (weight * float(pair.errors[0, 1])) ** 2, float(pair.freedom[0, 1])
