"""Dirichlet distributions by the logarithm of their concentrations, α > 0.

Evidence may be ``exp`` of a logit, so a concentration need not fit a float. In logarithms every
quantity here stays finite, with its gradient, and terms that grow with α cancel by algebra, not by
subtraction. Exceptions are those that truly grow without bound: as 1/α (entropy, divergence) or
as α of the second distribution (divergence).
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

    log_alpha: Tensor  # (N, C) float64

    @cached_property
    def log_strength(self) -> Tensor:
        """Log of S = Σα: (N,)."""
        return torch.logsumexp(self.log_alpha, dim=1)

    @cached_property
    def mean(self) -> Tensor:
        """Expected probabilities α/S: (N, C)."""
        return (self.log_alpha - self.log_strength.unsqueeze(1)).exp()

    def vacuity(self) -> Tensor:
        """Share C/S of the concentration that one count for each class has: (N,), > 0."""
        classes = self.log_strength.new_tensor(self.log_alpha.shape[1])
        return (classes.log() - self.log_strength).exp()

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

    def expected_cross_entropy(self, labels: Tensor) -> Tensor:
        """Expected −log p_y of classes y (N,) int64: ψ(S) − ψ(α_y), (N,) nats > 0."""
        log_alpha = self.log_alpha.gather(1, labels.unsqueeze(1)).squeeze(1)
        return digamma(self.log_strength) - digamma(log_alpha)

    def expected_entropy(self) -> Tensor:
        """Expected entropy of the probabilities: (N,) nats in [0, log C].

        ``E H(p) = −Σ p̂_k·(ψ(α_k+1) − ψ(S+1))``.
        """
        total = self.log_strength + digamma_excess(self.log_strength)  # ψ(S+1)
        parts = self.log_alpha + digamma_excess(self.log_alpha)
        return (self.mean * (total.unsqueeze(1) - parts)).sum(dim=1).clamp(min=0.0)


def kl_divergence(p: Dirichlet, q: Dirichlet) -> Tensor:
    """KL divergence of q (concentrations β, sum T) from p (α, S), in nats: (N,), ≥ 0.

    ``log Γ(S) − Σ log Γ(α_k) − log Γ(T) + Σ log Γ(β_k) + Σ (α_k−β_k)·(ψ(α_k) − ψ(S))``, with g for
    :func:`log_gamma_excess`, u for :func:`log_gamma_entropy` and δ(a) = log a − ψ(a) written as
    ``Σ g(β_k) − g(T) − Σ u(α_k) + u(S) + Σ β_k·(log(β_k/T) − log(α_k/S) + δ(α_k) − δ(S))``:
    terms as large as S are gone. It grows as β where the means differ, and as β/α where α is small:
    infinite beyond the floats. Otherwise log α may be as large as a float.
    """
    of_p, of_q = (torch.cat([d.log_alpha, d.log_strength.unsqueeze(1)], dim=1) for d in (p, q))
    gammas = log_gamma_excess(of_q) - log_gamma_entropy(of_p)
    apart = of_q - of_p + ((-of_p).exp() - digamma_excess(of_p))  # δ(a) = 1/a − (ψ(a+1) − log a)
    parts = gammas[:, :-1] + q.log_alpha.exp() * (apart[:, :-1] - apart[:, -1:])
    return parts.sum(dim=1) - gammas[:, -1]


def gamma_entropy(log_a: Tensor) -> Tensor:
    """Entropy of a gamma variable of shape a and scale 1: a + log Γ(a) + (1−a)·ψ(a)."""
    a, inverse = _both(log_a)
    direct = a + torch.lgamma(a) + (1 - a) * torch.digamma(a)
    series = _polynomial(inverse, 0.0, -1 / 3, -1 / 12, -1 / 90, 1 / 120, 1 / 210, -1 / 252)
    large = 0.5 * (1 + math.log(2 * math.pi) + log_a) + series
    return torch.where(log_a < _LARGE, direct, large)


def log_gamma_entropy(log_a: Tensor) -> Tensor:
    """Entropy of the logarithm of a gamma variable of shape a: a + log Γ(a) − a·ψ(a)."""
    a, inverse = _both(log_a)
    direct = torch.lgamma(a + 1) - log_a + a - a * torch.digamma(a + 1) + 1  # also where a → 0
    series = _polynomial(inverse, 0.0, 1 / 6, 0.0, -1 / 90, 0.0, 1 / 210)
    large = 0.5 * (1 + math.log(2 * math.pi) - log_a) + series
    return torch.where(log_a < _LARGE, direct, large)


def log_gamma_excess(log_a: Tensor) -> Tensor:
    """Log Γ(a) − (a·log a − a), which is near log(2π/a)/2 where a is large."""
    a, inverse = _both(log_a)
    direct = torch.lgamma(a + 1) - log_a - a * (log_a - 1)
    series = _polynomial(inverse, 0.0, 1 / 12, 0.0, -1 / 360, 0.0, 1 / 1260)
    large = 0.5 * (math.log(2 * math.pi) - log_a) + series
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
    """Give a, held below the range where series take over, and 1/a, held to that range.

    Each is used on its own side alone, but beyond it must not overflow: the gradient would be NaN.
    """
    return log_a.clamp(max=_LARGE).exp(), (-log_a.clamp(min=_LARGE)).exp()


def _polynomial(x: Tensor, *coefficients: float) -> Tensor:
    """Evaluate the polynomial c₀ + c₁·x + c₂·x² + …."""
    *others, last = coefficients
    total = torch.full_like(x, last)
    for coefficient in reversed(others):
        total = total * x
        if coefficient:
            total = total + coefficient
    return total
