"""The best of many trials, and how much of its value is owed to its being the best of many."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentood.errors import DetectorError
from latentood.evaluation.choice.space import Candidate
from latentood.evaluation.choice.trials import Rows, Sides, Trial, measured
from latentood.evaluation.choice.wish import Wish

Table = NDArray[np.float64]
"""(n, S) values of n trials on S sets, the higher the better."""


def done(trials: Sequence[Trial], who: str) -> list[Trial]:
    """Give the trials that have values.

    Raises:
        DetectorError: There is none.
    """
    kept = [one for one in trials if one.values]
    if not kept:
        raise DetectorError(
            f"{who}: at least one setting must be scored, but all {len(trials)} failed; the first: "
            f"{trials[0].reason}"
        )
    return kept


def order_of(trials: Sequence[Trial], defaults: Mapping[str, Candidate]) -> list[Trial]:
    """Put trials of equal value in the order in which they are preferred.

    First those that differ in the fewest settings from the default of their detector, then those
    that were tried first: a setting is preferred to the default only where it is better.
    """
    return sorted(trials, key=lambda one: one.candidate.distance(defaults[_name(one)]))


def best_of(values: Table) -> int:
    """Give the trial with the highest mean, the first of those with equal ones."""
    return int(values.mean(axis=1).argmax())


@dataclass(frozen=True)
class Optimism:
    """The value of the choice on the rows it was made on, and on others."""

    apparent: float
    cross_fitted: float
    folds: str  # what was left out in turn

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        optimism = self.apparent - self.cross_fitted
        return dict(vars(self)) | {"optimism": optimism}


def optimism_of(trials: Sequence[Trial], sides: Mapping[str, Sides], wish: Wish) -> Optimism:
    """Choose on some of the rows and look at the others, in turn (cross-fitting).

    With several tuning sets each is left out once: the choice is made on the mean of the others,
    as it was made on all, and valued on the one that was left out. A choice is then valued as on
    OOD of another kind. With one tuning set, its images and those of the ID side are halved by
    the seed; the choice is made on each half and valued on the other. The apparent value is that
    of the choice from all rows, on all rows. Both are means over the folds, in the unit of the
    criterion. A choice on fewer rows is less certain, which adds to the optimism that is printed.
    """
    names = list(trials[0].values)
    if len(names) > 1:
        fit = [_table(trials, [other for other in names if other != name]) for name in names]
        test = [_table(trials, [name]) for name in names]
        folds = "each tuning set in turn"
    else:
        fit = [_half_table(trials, names[0], sides[names[0]], wish, half) for half in (0, 1)]
        test = fit[::-1]
        folds = "each half of the rows in turn"
    whole = _table(trials, names)
    cross = [float(to[best_of(wish.sign * of)].mean()) for of, to in zip(fit, test, strict=True)]
    apparent = float(whole[best_of(wish.sign * whole)].mean())
    return Optimism(apparent, float(np.mean(cross)), folds)


def _table(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    return np.array([[one.values[name] for name in names] for one in trials])


def _half_table(trials: Sequence[Trial], name: str, sides: Sides, wish: Wish, half: int) -> Table:
    ids, oods = (
        _halved(rows, f"{name}:{side}", wish.seed) == half
        for side, rows in (("ID", sides.ids), ("OOD", sides.oods))
    )
    values = [
        measured(wish.criterion, one.scores[name][0][ids], one.scores[name][1][oods])
        for one in trials
    ]
    return np.array(values)[:, None]


def _halved(rows: Rows, name: str, seed: int) -> NDArray[np.int64]:
    """Put each image, with all its rows, into half 0 or 1."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    half: NDArray[np.int64] = generator.permutation(rows.images) % 2
    return half[rows.image]


def _name(trial: Trial) -> str:
    return trial.candidate.detector.name
