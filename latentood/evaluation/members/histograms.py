"""Exact metrics of any number of float16 scores in constant memory.

A float16 has 16 bits, so that 65,536 bins for each class hold all that metrics need to know of
stored scores. In order of their bits positive numbers ascend and negative ones descend: with the
negative half turned round, bins ascend. −0 is counted as +0.

The counts of a block come from one ``np.bincount`` over bits + 65,536 · class. They add up over
blocks, images and workers without rounding, in any order. It runs in one thread: on a machine whose
processors are busy the threads of torch wait for each other much longer than the counting takes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from latentood.errors import DataError
from latentood.evaluation.metrics.counts import METRICS, Counts, as_array
from latentood.latents.facts import ID, IGNORED, OOD

BINS = 1 << 16
_NEGATIVE_ZERO, _ZERO = BINS // 2 - 1, BINS // 2
_NOT_FINITE = 1 << 10  # bins at either end that hold ±inf and NaN
_PIECE = 1 << 18  # members at a time: its arrays stay in the cache of the processor


class ScoreHistogram:
    """How many ID and OOD members have each float16 score.

    Attributes:
        counts: (2, 65536) of int64, by ascending score: ID in row 0, OOD in row 1.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self.counts: Counts = np.zeros((2, BINS), np.int64) if counts is None else counts

    @classmethod
    def of(cls, scores: Any, ood: Any) -> Self:
        """Count the members of one image or of any other block; see :meth:`add`."""
        histogram = cls()
        histogram.add(scores, ood)
        return histogram

    def add(self, scores: Any, ood: Any) -> None:
        """Count the members of a block, all or, after an error, none.

        Args:
            scores: float16 array or tensor of any shape. Other types are refused: rounding
                belongs where scores are stored.
            ood: uint8 (or bool) of the same shape: 0 ID, 1 OOD, 255 ignore. The score of an
                ignored member is not looked at.

        Raises:
            DataError: A type or the shape is wrong, ``ood`` has another value, or a score that
                counts is NaN or infinite.
        """
        bits, classes = _checked(scores, ood)
        block = np.zeros((2, BINS), np.int64)
        for start in range(0, len(bits), _PIECE):
            block += _count(bits[start : start + _PIECE], classes[start : start + _PIECE])
        block = _ascending(block)
        block[:, _ZERO] += block[:, _NEGATIVE_ZERO]
        block[:, _NEGATIVE_ZERO] = 0
        bad = int(block[:, :_NOT_FINITE].sum() + block[:, -_NOT_FINITE:].sum())
        _check_finite(bad, int(block.sum()))
        self.counts += block

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        return ScoreHistogram(self.counts + other.counts)

    def __radd__(self, other: int) -> ScoreHistogram:
        """Let ``sum`` begin with its 0."""
        return self if other == 0 else NotImplemented

    @property
    def n_id(self) -> int:
        """How many ID members there are."""
        return int(self.counts[0].sum())

    @property
    def n_ood(self) -> int:
        """How many OOD members there are."""
        return int(self.counts[1].sum())

    def auroc(self) -> float:
        """Give the probability that an OOD member scores higher than an ID one, in [0, 1]."""
        return self._value("auroc")

    def aupr_out(self) -> float:
        """Give the average precision with OOD as the positive class, in [0, 1]."""
        return self._value("aupr_out")

    def aupr_in(self) -> float:
        """Give the average precision with ID as the positive class, in [0, 1]."""
        return self._value("aupr_in")

    def fpr95_ood(self) -> float:
        """Give the share of ID at or above the threshold that catches 95% of OOD, in [0, 1]."""
        return self._value("fpr95_ood")

    def fpr95_id(self) -> float:
        """Give the share of OOD at or below the threshold that keeps 95% of ID, in [0, 1]."""
        return self._value("fpr95_id")

    def _value(self, metric: str) -> float:
        if not self.n_id or not self.n_ood:
            raise DataError(
                f"{metric}: needs ID and OOD members, got {self.n_id} and {self.n_ood}; add images "
                "that have the other ones, or look at their ood values"
            )
        return float(METRICS[metric](*self.counts))


class Runs(NamedTuple):
    """The distinct scores of the members of one class, and how many have each."""

    bins: NDArray[np.uint16]  # (k,) ascending, those of a histogram
    counts: Counts  # (k,)


NO_RUNS = Runs(np.zeros(0, np.uint16), np.zeros(0, np.int64))


def runs_of(scores: Any, ood: Any) -> tuple[Runs, Runs]:
    """Count the members of one image, ID and OOD, without a bin for every score there could be.

    The arguments and errors are those of :meth:`ScoreHistogram.add`. Scores are sorted as integers
    of 16 bits, which takes less time than to look through 65,536 bins of which most are empty.
    """
    bits, classes = _checked(scores, ood)
    _check_classes(classes)
    bins = np.where(bits >= BINS // 2, ~bits, bits | np.uint16(BINS // 2))
    bins[bins == _NEGATIVE_ZERO] = _ZERO
    ids, oods = (_run_lengths(bins[classes == one]) for one in (ID, OOD))
    bad = sum(int(one.counts[_not_finite(one.bins)].sum()) for one in (ids, oods))
    _check_finite(bad, int(ids.counts.sum() + oods.counts.sum()))
    return ids, oods


def _run_lengths(bins: NDArray[np.uint16]) -> Runs:
    ordered = np.sort(bins, kind="stable")  # the radix sort of integers of 16 bits
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)])
    return Runs(ordered[ends], np.diff(ends, prepend=-1))


def _not_finite(bins: NDArray[np.uint16]) -> NDArray[np.bool_]:
    outside: NDArray[np.bool_] = (bins < _NOT_FINITE) | (bins >= BINS - _NOT_FINITE)
    return outside


def scores_of_bins() -> NDArray[np.float16]:
    """Give the score that each bin stands for, ascending: (65536,); not finite at both ends."""
    return _ascending(np.arange(BINS, dtype=np.uint16)).view(np.float16)


def _ascending(values: NDArray[Any]) -> NDArray[Any]:
    """Bring values (…, 65536) by the bits of scores in the order of scores."""
    return np.concatenate([values[..., : BINS // 2 - 1 : -1], values[..., : BINS // 2]], axis=-1)


def _checked(scores: Any, ood: Any) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Bring a block into bits (n,) and classes (n,)."""
    values, classes = as_array(scores), as_array(ood)
    if values.dtype != np.float16 or classes.dtype not in (np.uint8, np.bool_):
        raise DataError(
            "score histogram: scores must be float16 and ood uint8, got "
            f"{values.dtype} and {classes.dtype}; convert them where they are stored"
        )
    if values.shape != classes.shape:
        raise DataError(
            "score histogram: scores and ood must have one shape, got "
            f"{values.shape} and {classes.shape}; resize scores to the mask"
        )
    return values.ravel().view(np.uint16), classes.ravel().view(np.uint8)


def _count(bits: NDArray[np.uint16], classes: NDArray[np.uint8]) -> Counts:
    """Count a piece: (2, 65536) by the bits as they are."""
    keys = np.left_shift(_check_classes(classes), 16, dtype=np.int64)
    keys += bits
    return np.bincount(keys, minlength=3 * BINS).reshape(3, BINS)[1:]


def _check_classes(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Refuse other values than those of a class; give 0 for ignore, 1 for ID and 2 for OOD."""
    shifted = classes + np.uint8(1)  # uint8 wraps
    if shifted.max(initial=0) > 2:
        raise DataError(
            f"score histogram: ood must be 0 (ID), 1 (OOD) or {IGNORED} (ignore), got "
            f"{classes[shifted > 2][0]}; map the values of the mask first"
        )
    return shifted


def _check_finite(bad: int, of: int) -> None:
    if bad:
        raise DataError(
            f"score histogram: scores must be finite float16, got {bad} that are NaN or infinite "
            f"among {of}; look at these inputs or at the detector, or set their ood to {IGNORED}"
        )
