"""Dirichlet distributions by the logarithm of their concentrations, α ≥ 1.

Evidence may be ``exp`` of a logit, so a concentration need not fit a float. In logarithms every
quantity here stays finite, and terms that grow with α cancel by algebra, not by subtraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_LARGE = math.log(64.0)  # from α = 64 on, the series below are exact to a float64


@dataclass(frozen=True, eq=False)
class Dirichlet:
    """One Dirichlet distribution per row."""

    log_alpha: Tensor  # (N, C) float64, log α ≥ 0

    @cached_property
    def log_strength(self) -> Tensor:
        """Log of S = Σα: (N,)."""
        return torch.logsumexp(self.log_alpha, dim=1)

    @cached_property
    def mean(self) -> Tensor:
        """Expected probabilities α/S: (N, C)."""
        return (self.log_alpha - self.log_strength.unsqueeze(1)).exp()

    def entropy(self) -> Tensor:
        """Differential entropy: (N,) nats, at most −log Γ(C), where all α are 1.

        ``log B(α) + (S−C)·ψ(S) − Σ(α_k−1)·ψ(α_k)``, written with the entropies h of gamma
        variables as ``Σ h(α_k) − h(S) − (C−1)·ψ(S)``: terms as large as S are gone.
        """
        classes = self.log_alpha.shape[1]
        parts = gamma_entropy(self.log_alpha).sum(dim=1) - gamma_entropy(self.log_strength)
        return parts - (classes - 1) * digamma(self.log_strength)

    def mutual_information(self) -> Tensor:
        """Mutual information of a class and the probabilities it is drawn from: (N,) nats ≥ 0.

        ``H(E p) − E H(p)`` with ``E H(p) = −Σ p̂_k·(ψ(α_k+1) − ψ(S+1))``. Since log p̂_k is
        log α_k − log S, that is ``Σ p̂_k·d(α_k) − d(S)`` for ``d(a) = ψ(a+1) − log a``.
        """
        parts = (self.mean * digamma_excess(self.log_alpha)).sum(dim=1)
        return (parts - digamma_excess(self.log_strength)).clamp(min=0.0)


def gamma_entropy(log_a: Tensor) -> Tensor:
    """Entropy of a gamma variable of shape a and scale 1: a + log Γ(a) + (1−a)·ψ(a)."""
    a, inverse = _both(log_a)
    direct = a + torch.lgamma(a) + (1 - a) * torch.digamma(a)
    series = _polynomial(inverse, 0.0, -1 / 3, -1 / 12, -1 / 90, 1 / 120, 1 / 210, -1 / 252)
    large = 0.5 * (1 + math.log(2 * math.pi) + log_a) + series
    return torch.where(log_a < _LARGE, direct, large)


def digamma(log_a: Tensor) -> Tensor:
    """ψ(a)."""
    a, inverse = _both(log_a)
    series = _polynomial(inverse, 0.0, -1 / 2, -1 / 12, 0.0, 1 / 120, 0.0, -1 / 252)
    return torch.where(log_a < _LARGE, torch.digamma(a), log_a + series)


def digamma_excess(log_a: Tensor) -> Tensor:
    """ψ(a+1) − log a, which is near 1/(2a): its terms cancel where a is large."""
    a, inverse = _both(log_a)
    series = _polynomial(inverse, 0.0, 1 / 2, -1 / 12, 0.0, 1 / 120, 0.0, -1 / 252)
    return torch.where(log_a < _LARGE, torch.digamma(a + 1) - log_a, series)


def _both(log_a: Tensor) -> tuple[Tensor, Tensor]:
    """Give a, held below the range where series take over, and 1/a."""
    return log_a.clamp(max=_LARGE).exp(), (-log_a).exp()


def _polynomial(x: Tensor, *coefficients: float) -> Tensor:
    """Evaluate the polynomial c₀ + c₁·x + c₂·x² + …."""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
