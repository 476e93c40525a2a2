"""Means, scatter and variances of the fit rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector
from latentood.detectors.statistics.base import FLOAT64, OfArray, width_of
from latentood.latents import CHUNK_ROWS, Accumulator, Latents, Reading
from latentood.stats.linalg import EPSILON, Covariance, column_sums, unit_rows
from latentood.stats.moments import MomentSums, RowMoments
from latentood.stats.products import SelfProduct


@dataclass(frozen=True)
class OfScatter(OfArray):
    """A statistic with a scatter (D, D) that is factored or decomposed afterwards."""

    _COPIES: ClassVar[int] = 5  # measured: the matrix, and the work of making a whitener of it

    def nbytes(self, source: Latents) -> int:
        """Estimate all matrices (D, D) that exist at once."""
        return self._COPIES * FLOAT64 * width_of(source, self.key) ** 2


@dataclass(frozen=True)
class Moments(OfScatter):
    """Count, mean, scatter and their eigendecomposition, for every detector that needs them."""

    def start(self, source: Latents) -> Accumulator[RowMoments]:
        """Begin a read of ``source``."""
        sums = MomentSums()
        return Reading(lambda chunk: sums.add(chunk[self.key]), sums.result)


class RunningSum:
    """A sum over chunks, as wide and where the first chunk is."""

    total: Tensor

    def add(self, part: Tensor) -> None:
        """Add the part of a chunk."""
        self.total = self.total + part if hasattr(self, "total") else part


@dataclass(frozen=True)
class Mean(OfArray):
    """Mean of the rows alone, (D,) float64, without the scatter that ``Moments`` needs."""

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a read of ``source``."""
        rows = RunningSum()
        return Reading(
            lambda chunk: rows.add(column_sums(chunk[self.key])), lambda: rows.total / len(source)
        )


@dataclass(frozen=True)
class Lowest(OfArray):
    """Smallest value of the rows, () float64: not below 0 for features after a ReLU."""

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a read of ``source``."""
        parts: list[Tensor] = []
        return Reading(
            lambda chunk: parts.append(chunk[self.key].amin().double()),
            lambda: torch.stack(parts).amin(),
        )


@dataclass(frozen=True)
class UnitScatter(OfScatter):
    """``Σ ĥ·ĥᵀ`` about 0 of the rows scaled to length 1, not divided by their number."""

    def start(self, source: Latents) -> Accumulator[Covariance]:
        """Begin a read of ``source``."""
        first = source.read(self.key, 0, 1)
        product = SelfProduct(first.shape[1], first.device)

        def finish() -> Covariance:
            scatter = product.total()
            size = float(torch.linalg.matrix_norm(scatter))
            return Covariance(scatter, EPSILON * len(scatter) * size)

        return Reading(lambda chunk: product.add(unit_rows(chunk[self.key])), finish)


@dataclass(frozen=True)
class UnitMoments(OfScatter):
    """Moments of rows scaled to length 1."""

    def start(self, source: Latents) -> Accumulator[RowMoments]:
        """Begin a read of ``source``."""
        sums = MomentSums()
        return Reading(lambda chunk: sums.add(unit_rows(chunk[self.key])), sums.result)


@dataclass(frozen=True)
class DistanceMoments:
    """Mean and standard deviation (2,) of the distances of ID validation rows at one layer."""

    distance: FeatureDetector
    train: Latents

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.distance.key,)

    def nbytes(self, source: Latents) -> int:
        """Estimate the fit of the distance."""
        return self.distance.memory(self.train)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Fit the distance and begin a read of the validation rows."""
        state = self.distance.fit(self.train)
        parts: list[Tensor] = []

        def finish() -> Tensor:
            spread, mean = torch.std_mean(torch.cat(parts), correction=0)
            return torch.stack([mean, spread])

        return Reading(lambda chunk: parts.append(self.distance.score(state, chunk)), finish)


@dataclass(frozen=True)
class PassVariance(OfArray):
    """Variance of every dimension over the passes, averaged over the rows: (D,) float64."""

    def nbytes(self, source: Latents) -> int:
        """Estimate a chunk (n, T, D) in float64."""
        rows, passes, width = source.shape(self.key)
        return FLOAT64 * min(rows, CHUNK_ROWS) * passes * width

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a read of ``source``."""
        parts: list[Tensor] = []

        def take(chunk: Latents) -> None:
            parts.append(chunk.double(self.key).var(dim=1, correction=0).sum(dim=0))

        return Reading(take, lambda: torch.stack(parts).sum(dim=0) / len(source))
