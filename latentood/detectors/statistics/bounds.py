"""The range of every column by predicted class, and how far rows leave it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics.base import FLOAT64, OfPredictions, width_of
from latentood.latents import LOGITS, Accumulator, Latents, Reading


@dataclass(frozen=True, eq=False)
class ClassBounds:
    """Smallest and largest values of every column over the rows predicted as each class."""

    low: Tensor  # (C, D) float64
    high: Tensor  # (C, D) float64
    unseen: tuple[int, ...]  # predicted for no fit row; their bounds are those of all rows


@dataclass(frozen=True)
class PredictedBounds(OfPredictions):
    """The range of every column by predicted class."""

    def nbytes(self, source: Latents) -> int:
        """Estimate the two bounds (C, D)."""
        return 2 * FLOAT64 * source.shape(LOGITS)[1] * width_of(source, self.key)

    def start(self, source: Latents) -> Accumulator[ClassBounds]:
        """Begin a read of ``source``."""
        shape = (source.shape(LOGITS)[1], source.shape(self.key)[1])
        device = source.read(LOGITS, 0, 1).device
        low = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
        high = -low

        def take(chunk: Latents) -> None:
            rows = chunk.double(self.key)
            predicted = chunk[LOGITS].argmax(dim=1).unsqueeze(1).expand_as(rows)
            low.scatter_reduce_(0, predicted, rows, "amin")
            high.scatter_reduce_(0, predicted, rows, "amax")

        def finish() -> ClassBounds:
            unseen = low[:, 0] > high[:, 0]
            low[unseen], high[unseen] = low.amin(dim=0), high.amax(dim=0)
            return ClassBounds(low, high, tuple(unseen.nonzero().flatten().tolist()))

        return Reading(take, finish)


@dataclass(frozen=True, eq=False)
class MeanDeviation(OfPredictions):
    """Mean deviation of one layer over rows, given its bounds by class: () float64."""

    low: Tensor  # (C, D)
    high: Tensor  # (C, D)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a read of ``source``."""
        total = self.low.new_zeros(())

        def take(chunk: Latents) -> None:
            predicted = chunk[LOGITS].argmax(dim=1)
            total.add_(deviations_by_class(chunk[self.key], predicted, self.low, self.high).sum())

        return Reading(take, lambda: total / len(source))


def deviations(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Relative distance outside the bounds, summed over columns: three (N, D) → (N,)."""
    below = (low - rows).clamp(min=0.0) / (low.abs() + _FLOOR)
    above = (rows - high).clamp(min=0.0) / (high.abs() + _FLOOR)
    return (below + above).sum(dim=1)


def deviations_by_class(rows: Tensor, predicted: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Deviations of rows (N, D) of any dtype from the bounds (C, D) of their class (N,) → (N,)."""
    step = max(1, _ELEMENTS // rows.shape[1])
    parts = zip(rows.split(step), predicted.split(step), strict=True)
    return torch.cat([deviations(part.double(), low[c], high[c]) for part, c in parts])


_ELEMENTS = 1 << 18  # per step: the temporaries of a step stay in the cache

_FLOOR = 1e-6  # as in the authors' code: a bound may be 0, as for a unit that never fires
