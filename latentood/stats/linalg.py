"""Symmetric products, whitening and nearest centres: the linear algebra detectors share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float64).eps


def lengths(rows: Tensor) -> Tensor:
    """Euclidean length of each row: (N, D) → (N,)."""
    result: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return result


def self_product(rows: Tensor) -> Tensor:
    """Give ``rowsᵀ·rows``.

    Args:
        rows: (N, D) float64.

    Returns:
        (D, D), exactly symmetric on the CPU.
    """
    if rows.device.type != "cpu":
        return rows.mT @ rows
    # NumPy sees that both factors are one array and lets BLAS compute one triangle only,
    # which torch does not: half the work of every fit.
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)


@dataclass(frozen=True, eq=False)
class Covariance:
    """A covariance and its eigendecomposition, computed when first asked for.

    Attributes:
        matrix: (D, D) float64, symmetric.
        noise: Eigenvalues at or below this are rounding, not spread.
    """

    matrix: Tensor  # (D, D)
    noise: float

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (D,), largest first and 0 where rounding, and eigenvectors (D, D) in columns.

        Rounding left in would be magnified by a ridge not much larger.
        """
        values, vectors = torch.linalg.eigh(self.matrix)
        values = torch.where(values > self.noise, values, 0.0)
        return values.flip(0), vectors.flip(1)

    @cached_property
    def rank(self) -> int:
        """Count the directions with spread beyond rounding."""
        return int((self.spectrum[0] > self.noise).sum())

    @property
    def scale(self) -> float:
        """Mean variance of a direction: trace/D."""
        return float(self.matrix.diagonal().mean())

    def whitener(self, ridge: float) -> Tensor:
        """Give A such that ``A·Aᵀ = (Σ + ridge·(trace Σ/D)·I)⁻¹``.

        The ridge is a share of the mean variance, so it means the same at every feature scale.
        The matrix must have full rank, or some spread and ``ridge > 0``.

        Args:
            ridge: Share of trace/D added to every eigenvalue.

        Returns:
            (D, D); ``(h − μ)·A`` has squared length (h−μ)ᵀΣ⁻¹(h−μ).
        """
        values, vectors = self.spectrum
        return vectors * (values + ridge * self.scale).rsqrt()

    def components(self, count: int) -> Tensor:
        """Give the leading principal axes, each divided by its standard deviation.

        Args:
            count: How many, at most the rank.

        Returns:
            (D, count); projections of the centred rows have variance 1 in every column.
        """
        values, vectors = self.spectrum
        return vectors[:, :count] * values[:count].rsqrt()


def nearest_squared(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared euclidean distance to the nearest centre.

    ``‖c‖² − 2·r·c`` in one matrix product finds the nearest; the distance to that one is then
    computed from the difference, because the expanded square cancels where it is small.

    Args:
        rows: (N, D).
        centres: (K, D).

    Returns:
        (N,), ≥ 0.
    """
    if len(centres) == 1:
        return (rows - centres).square().sum(dim=1)
    ranking = torch.addmm(centres.square().sum(dim=1), rows, centres.mT, alpha=-2)  # (N, K)
    return (rows - centres[ranking.argmin(dim=1)]).square().sum(dim=1)
