"""Perturbed projections onto the classes, and histograms of a row's features and projections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.base import FLOAT64, width_of
from latentood.latents import HEAD, PENULTIMATE_FEATURES, Accumulator, Latents, Reading
from latentood.stats.linalg import lengths

_ELEMENTS = 1 << 22  # projections per step: 32 MiB of float64
_EDGE = 1e-9  # of a bin: a value this near an edge counts above it, so that rounding does not show


@dataclass(frozen=True, eq=False)
class Projector:
    """Projections of features, and the ranges of both over the fit rows."""

    weight: Tensor  # (R·C, D) float64, all classes of a repeat together
    bias: Tensor  # (R·C,) float64
    ranges: Tensor  # (2, 2) float64: lowest and highest feature, then projection

    def parts(self, features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Give some rows at a time: features (n, D) and projections (n, R·C), float64."""
        for rows in features.split(max(1, _ELEMENTS // len(self.bias))):
            part = rows.double()
            yield part, torch.addmm(self.bias, part, self.weight.mT)

    def histograms(self, features: Tensor, projections: Tensor, bins: int) -> Tensor:
        """Share of a row's features, and of its projections, in every bin: (n, 2, bins)."""
        pairs = zip((features, projections), self.ranges, strict=True)
        return torch.stack([_shares(values, span, bins) for values, span in pairs], dim=1)


@dataclass(frozen=True)
class Projections:
    """Directions drawn about the weights of the head, and what fit rows reach along them.

    Attributes:
        repeats: How often every class is perturbed.
        distance: Length of a perturbation by that of the weight.
        seed: Which directions are drawn.
    """

    repeats: int
    distance: float
    seed: int

    def keys(self) -> tuple[str, ...]:
        """Name the array it reads, beside the head."""
        return (PENULTIMATE_FEATURES,)

    def nbytes(self, source: Latents) -> int:
        """Estimate the perturbed weights, and the projections of one step."""
        if HEAD not in source:
            return 0
        rows = self.repeats * len(source.head[1])
        return FLOAT64 * (rows * width_of(source, PENULTIMATE_FEATURES) + 4 * _ELEMENTS)

    def start(self, source: Latents) -> Accumulator[Projector]:
        """Draw the directions and begin the read for the ranges."""
        head = checked_head("weiper", source)
        unranged = torch.tensor([[torch.inf, -torch.inf]] * 2, dtype=torch.float64)
        projector = self.projector(*head, unranged.to(head[0].device))
        ranges = projector.ranges

        def take(chunk: Latents) -> None:
            for both in projector.parts(chunk[PENULTIMATE_FEATURES]):
                spans = torch.stack([torch.stack(values.aminmax()) for values in both])
                torch.minimum(ranges[:, 0], spans[:, 0], out=ranges[:, 0])
                torch.maximum(ranges[:, 1], spans[:, 1], out=ranges[:, 1])

        return Reading(take, lambda: projector)

    def projector(self, weight: Tensor, bias: Tensor, ranges: Tensor) -> Projector:
        """Perturb a head: weight (C, D), bias (C,), with ranges that are known."""
        # The stream of RandomState is frozen by NumPy, so that a file needs no drawn weight.
        shape = (self.repeats * len(bias), weight.shape[1])
        drawn = torch.from_numpy(np.random.RandomState(self.seed).standard_normal(shape))
        noise = drawn.to(weight.device)
        noise *= (self.distance * lengths(weight).repeat(self.repeats) / lengths(noise))[:, None]
        noise.unflatten(0, (self.repeats, -1)).add_(weight)
        return Projector(noise, bias.repeat(self.repeats), ranges)


@dataclass(frozen=True)
class MeanHistograms:
    """The histograms of features and of projections, averaged over the rows: (2, bins) float64."""

    projections: Projections
    bins: int

    def keys(self) -> tuple[str, ...]:
        """Name the array it reads."""
        return (PENULTIMATE_FEATURES,)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Look the projections up and begin the second read."""
        projector = source.compute(self.projections)
        total = projector.ranges.new_zeros(2, self.bins)

        def take(chunk: Latents) -> None:
            for both in projector.parts(chunk[PENULTIMATE_FEATURES]):
                total.add_(projector.histograms(*both, self.bins).sum(dim=0))

        return Reading(take, lambda: total / len(source))


def _shares(values: Tensor, span: Tensor, bins: int) -> Tensor:
    """Share of the values (n, M) of a row in each of the equal bins of a span (2,): (n, bins).

    Values outside the span are in no bin, so that the shares of a row may add up to less than 1.
    """
    low, high = span
    place = (values - low) / (high - low).clamp(min=torch.finfo(torch.float64).tiny) * bins + _EDGE
    inside = (place >= 0) & (place <= bins + 2 * _EDGE)
    cells = torch.where(inside, place.clamp(0, bins - 1), bins).long()
    cells += (bins + 1) * torch.arange(len(values), device=values.device).unsqueeze(1)
    counts = torch.bincount(cells.flatten(), minlength=len(values) * (bins + 1))
    return counts.view(-1, bins + 1)[:, :bins].double() / values.shape[1]
