"""Symmetric products, whitening and nearest centres: the linear algebra detectors share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float64).eps
FLAT = (100 * EPSILON) ** 2  # variance below this share of the squared mean is rounding

_PART_ELEMENTS = 1 << 19  # 4 MiB in float64, which a processor's cache holds
_WELL_CONDITIONED = 1e-6  # smallest eigenvalue by the mean one


def lengths(rows: Tensor) -> Tensor:
    """Euclidean length of each row: (N, D) → (N,)."""
    result: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return result


def parts(rows: Tensor) -> tuple[Tensor, ...]:
    """Cut rows (N, D) into parts that, turned to float64, stay in the processor's cache."""
    cut: tuple[Tensor, ...] = rows.split(max(256, _PART_ELEMENTS // rows.shape[1]))
    return cut


def column_sums(rows: Tensor) -> Tensor:
    """Add up rows (N, D) of any float dtype in float64: (D,)."""
    return torch.stack([part.double().sum(dim=0) for part in parts(rows)]).sum(dim=0)


@dataclass(frozen=True, eq=False)
class Covariance:
    """A covariance and its eigendecomposition, computed when first asked for."""

    matrix: Tensor  # (D, D) float64, symmetric
    noise: float  # eigenvalues at or below this are rounding, not spread

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
        if self._well_conditioned:
            return len(self.matrix)
        return int((self.spectrum[0] > self.noise).sum())

    @property
    def scale(self) -> float:
        """Mean variance of a direction: trace/D."""
        return float(self.matrix.diagonal().mean())

    def whitener(self, ridge: float) -> Tensor:
        """Give A (D, D) such that ``A·Aᵀ = (Σ + ridge·(trace Σ/D)·I)⁻¹``.

        Then ``(h − μ)·A`` has squared length (h−μ)ᵀΣ⁻¹(h−μ). The ridge is a share of the mean
        variance, so it means the same at every feature scale. The matrix must have full rank, or
        some spread and ``ridge > 0``. No eigenvalues are computed where the smallest is far above
        rounding.
        """
        if self._well_conditioned:
            factor = torch.linalg.cholesky(self._shifted(ridge * self.scale))
            identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
            inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
            return inverse.mT
        values, vectors = self.spectrum
        return vectors * (values + ridge * self.scale).rsqrt()

    @cached_property
    def _well_conditioned(self) -> bool:
        """Whether every eigenvalue is well above 0, so that they need not be computed."""
        floor = max(self.noise, _WELL_CONDITIONED * self.scale)
        failed = torch.linalg.cholesky_ex(self._shifted(-floor)).info
        return floor > 0 and not bool(failed)

    def _shifted(self, step: float) -> Tensor:
        """Add a step to every eigenvalue."""
        return self.matrix + torch.diag_embed(torch.full_like(self.matrix.diagonal(), step))

    def components(self, count: int) -> Tensor:
        """Give the leading principal axes (D, count), each divided by its standard deviation.

        Projections of the centred rows have variance 1 in every column; count ≤ rank.
        """
        values, vectors = self.spectrum
        return vectors[:, :count] * values[:count].rsqrt()


def nearest_squared(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared euclidean distance of rows (N, D) to the nearest of the centres (K, D): (N,) ≥ 0.

    ``‖c‖² − 2·r·c`` in one matrix product gives the nearest; the distance to that one is then
    computed from the difference, because the expanded square cancels where it is small.
    """
    if len(centres) == 1:
        return (rows - centres).square().sum(dim=1)
    ranking = torch.addmm(centres.square().sum(dim=1), rows, centres.mT, alpha=-2)  # (N, K)
    return (rows - centres[ranking.argmin(dim=1)]).square().sum(dim=1)


NORM_FLOOR = 1e-10
"""Added to a norm before dividing by it, so that a row of zeros stays one."""


def unit_rows(rows: Tensor) -> Tensor:
    """Scale rows to length 1: x/(‖x‖+ε), (N, D) → (N, D) float64."""
    rows = rows.double()
    return rows / (lengths(rows).unsqueeze(1) + NORM_FLOOR)


def radially_scaled(rows: Tensor, power: float) -> Tensor:
    """Divide rows by a power of their length: x/‖x‖^β, (N, D) → (N, D) float64.

    Directions stay; β = 1 gives rows of length 1. Lengths below ε count as ε: a row of zeros stays.
    """
    rows = rows.double()
    return rows * lengths(rows).clamp(min=NORM_FLOOR).pow(-power).unsqueeze(1)


def condition_of(whitener: Tensor) -> float:
    """Condition number of the covariance, ridge included, that a whitener (D, D') inverts."""
    inverse = whitener.square().sum(dim=0)  # of its eigenvalues
    return float(inverse.max() / inverse.min())
