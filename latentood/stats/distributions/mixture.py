"""Mixtures of Gaussians, held as factors of their precisions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentood.stats.linalg import EPSILON


def mixture_log_density(
    rows: Tensor, log_weights: Tensor, means: Tensor, factors: Tensor
) -> Tensor:
    """Log density of rows (N, D) float64: ``log Σ_k w_k·N(x; μ_k, Σ_k)``, (N,) nats.

    The factors A_k have A_k·A_kᵀ = Σ_k⁻¹: triangular (K, D, D), one for all (1, D, D), or the
    diagonals of diagonal ones (K, D). Log weights are (K,), means (K, D).
    """
    full = factors.dim() == 3
    diagonals = factors.diagonal(dim1=1, dim2=2) if full else factors
    volume = 0.5 * means.shape[1] * math.log(2 * math.pi)
    heights = log_weights + diagonals.log().sum(dim=1) - volume  # log w_k·N(μ_k; μ_k, Σ_k)
    logs = rows.new_empty(len(rows), len(means))
    for k, mean in enumerate(means):
        factor = factors[k % len(factors)]
        units = (rows - mean) @ factor if full else (rows - mean) * factor
        logs[:, k] = heights[k] - 0.5 * units.square().sum(dim=1)
    return logs.logsumexp(dim=1)


def precision_factors(covariances: Tensor, jitter: float) -> Tensor | None:
    """Factor the inverses of covariances (K, D, D) by Cholesky, with ``jitter`` on their diagonals.

    The factors (K, D, D) are upper triangular with A_k·A_kᵀ = (Σ_k + jitter·I)⁻¹; None if a
    covariance is not positive definite by more than rounding.
    """
    width = covariances.shape[1]
    identity = torch.eye(width, dtype=covariances.dtype, device=covariances.device)
    factors = torch.empty_like(covariances)
    for covariance, factor in zip(covariances, factors, strict=True):
        lower, failed = torch.linalg.cholesky_ex(covariance + jitter * identity)
        # A singular matrix often passes by luck of rounding: its last pivots are then rounding.
        if bool(failed) or bool((lower.diagonal().square() <= rounding(covariance)).any()):
            return None
        factor.copy_(torch.linalg.solve_triangular(lower.mT, identity, upper=True))
    return factors


def rounding(covariance: Tensor) -> Tensor:
    """Size of an eigenvalue that is rounding, not spread, of a covariance (D, D): a scalar."""
    size: Tensor = EPSILON * len(covariance) * torch.linalg.matrix_norm(covariance)
    return size


def spread_rank(covariance: Tensor, ridge: float = 0.0) -> int:
    """Count the directions of a covariance (D, D) with spread beyond a ridge and rounding."""
    return int((torch.linalg.eigvalsh(covariance) - ridge > rounding(covariance)).sum())
