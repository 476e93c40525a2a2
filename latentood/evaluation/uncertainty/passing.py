"""Rows that were drawn, in the order in which they pass a falling threshold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation.metrics.counts import Counts, table
from latentood.evaluation.metrics.ranking import Array

Weights: TypeAlias = NDArray[np.uint8]
Sums: TypeAlias = NDArray[np.float32]

_ROWS = 256  # at a time: their cumulative sums, 1 MiB for 1000 resamples, stay in the cache


@dataclass(frozen=True, eq=False)
class Passing:
    """The rows in the order in which they pass a falling threshold, those of equal score at once.

    Attributes:
        weights: (n, B) and (m, B), how often rows were drawn.
        orders: (n,) and (m,), the rows by descending score.
        ends: (G + 1,) each, how many ID and OOD rows have passed before each of the G distinct
            scores, and at last.
    """

    weights: tuple[Weights, Weights]
    orders: tuple[NDArray[np.intp], NDArray[np.intp]]
    ends: tuple[Counts, Counts]

    @classmethod
    def of(cls, weights: tuple[Weights, Weights], ids: Array, oods: Array) -> Passing:
        """Order the rows; weights are (n, B) and (m, B), scores (n,) and (m,)."""
        _, sides = table(ids, oods)
        orders = np.argsort(-ids), np.argsort(-oods)
        first, second = (np.concatenate([[0], np.cumsum(one[::-1])]) for one in sides)
        return cls(weights, orders, (first, second))

    def pieces(self) -> Iterator[Piece]:
        """Accumulate the weights, some distinct scores at a time."""
        passed = self.ends[0] + self.ends[1]
        starts = np.unique(np.searchsorted(passed, np.arange(0, passed[-1], _ROWS)))
        carried = [np.zeros(self.weights[0].shape[1], np.float32) for _ in self.weights]
        for start, stop in zip(starts, [*starts[1:], len(passed) - 1], strict=True):
            sums, places = [], []
            for side, ends in enumerate(self.ends):
                rows = self.orders[side][ends[start] : ends[stop]]
                sums.append(_accumulated(carried[side], self.weights[side][rows]))
                places.append(ends[start : stop + 1] - ends[start])
                carried[side] = sums[side][-1]
            yield Piece(sums[0], sums[1], places[0], places[1])


@dataclass(frozen=True, eq=False)
class Piece:
    """How often ID and OOD rows were drawn that have passed, for some distinct scores.

    Attributes:
        ids: (r + 1, B) cumulative weights of ID rows, before these r rows and after each.
        oods: (q + 1, B) those of OOD rows.
        id_ends: (g + 1,) rows of ``ids`` before each distinct score, and after the last.
        ood_ends: (g + 1,) rows of ``oods``.
    """

    ids: Sums
    oods: Sums
    id_ends: Counts
    ood_ends: Counts

    def precision(self, weight: float = 1) -> Array:
        """Sum the precision over the OOD rows, each ID row with a weight: (B,)."""
        at = np.flatnonzero(np.diff(self.ood_ends)) + 1
        hits, wrong = self.oods[self.ood_ends[at]], self.ids[self.id_ends[at]]
        if weight != 1:
            wrong *= np.float32(weight)
        return _summed(hits, wrong, _gained(self.oods, self.ood_ends, at))

    def apart(self, n: int, m: int) -> Array:
        """Give the largest share of OOD rows less that of ID rows that have passed: (B,)."""
        caught = self.oods[self.ood_ends] / np.float32(m)
        caught -= self.ids[self.id_ends] / np.float32(n)
        most: Array = caught.max(axis=0).astype(np.float64)
        return most

    def precision_in(self, n: int, m: int) -> Array:
        """Sum the precision over the ID rows with ID as the positive class: (B,)."""
        at = np.flatnonzero(np.diff(self.id_ends)) + 1
        hits = np.float32(n) - self.ids[self.id_ends[at - 1]]
        wrong = np.float32(m) - self.oods[self.ood_ends[at - 1]]
        return _summed(hits, wrong, _gained(self.ids, self.id_ends, at))

    def alarms(self, needed: int, passed: Array) -> None:
        """Note how many ID rows have passed where so many OOD rows have."""
        for case, end in _crossings(self.oods, self.ood_ends, needed):
            passed[case] = self.ids[self.id_ends[end], case]

    def accepted(self, needed: int, passed: Array) -> None:
        """Note how many OOD rows have passed before the score with which so many ID rows have."""
        for case, end in _crossings(self.ids, self.id_ends, needed):
            passed[case] = self.oods[self.ood_ends[end - 1], case]


def _accumulated(start: Sums, weights: Weights) -> Sums:
    """Add up (r, B) weights along the rows: (r + 1, B), from the start on.

    float32 counts exactly up to 2²⁴ rows. One addition per row is several times faster than
    ``np.cumsum``, which walks down the columns.
    """
    sums = np.empty((len(weights) + 1, start.size), np.float32)
    sums[0] = start
    sums[1:] = weights
    for before, after in itertools.pairwise(sums):
        np.add(before, after, out=after)
    return sums


def _gained(sums: Sums, ends: Counts, at: NDArray[np.intp]) -> Sums:
    gained: Sums = sums[ends[at]] - sums[ends[at - 1]]
    return gained


def _summed(hits: Sums, wrong: Sums, gained: Sums) -> Array:
    """Sum hits/(hits + wrong) · gained over the scores, all (g, B)."""
    wrong += hits
    # Before the first drawn row all are 0, and so is what is gained.
    np.maximum(wrong, 1, out=wrong)
    hits /= wrong
    hits *= gained
    total: Array = hits.sum(axis=0, dtype=np.float64)
    return total


def _crossings(
    sums: Sums, ends: Counts, needed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give the cases whose sum reaches what is needed in this piece, and at which score."""
    cases = np.flatnonzero((sums[0] < needed) & (sums[-1] >= needed))
    if cases.size:
        row = (sums[:, cases] < needed).sum(axis=0)
        yield cases, np.searchsorted(ends, row)
