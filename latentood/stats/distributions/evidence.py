"""Evidence of evidential models, by its logarithm: what logits say for each class.

A model predicts a Dirichlet distribution of concentrations α = e + 1 (arXiv:1806.01768, sec. 3).
Training and detectors read logits by the same functions. All of them have finite gradients, also
where there is no evidence (log e = −∞) and where e does not fit a float.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Evidence = Literal["relu", "softplus", "exp"]
"""How an evidential model turns logits into evidence."""

_LEAST = -700.0  # below, exp is no normal float64


def log_evidence(logits: Tensor, function: str) -> Tensor:
    """Log of the evidence for each class: (N, C) → (N, C), −∞ where there is none."""
    match function:
        case "softplus":  # torch's own softplus is the identity from 20 on
            held = logits.clamp(min=_LEAST)
            direct = torch.logaddexp(held, torch.zeros_like(held)).log()
            return torch.where(logits > _LEAST, direct, logits)  # log softplus(z) → z
        case "exp":
            return logits
    some = logits > 0  # the gradient of a clamp at 0 is 1 in some versions of torch, times 1/0
    return torch.where(some, torch.where(some, logits, 1.0).log(), -torch.inf)


def log_concentration(log_evidence: Tensor) -> Tensor:
    """Log of α = e + 1: (N, C) → (N, C), ≥ 0."""
    return torch.logaddexp(log_evidence, torch.zeros_like(log_evidence))


def reconciled(log_evidence: Tensor, share: Tensor | float = 1.0) -> Tensor:
    """Log of e − s·min(e), for the least evidence of each row: (N, C) → (N, C).

    Args:
        log_evidence: (N, C).
        share: s in [0, 1], for all rows or (N, 1).
    """
    least = log_evidence.amin(dim=1, keepdim=True)
    gap = torch.where(log_evidence > least, least - log_evidence, 0.0)  # log of min(e)/e
    left = (1 - share) - share * torch.expm1(gap)  # 1 − s·min(e)/e, without the cancellation
    some = left > 0
    return torch.where(some, log_evidence + torch.where(some, left, 1.0).log(), -torch.inf)


def log_less_one(log_alpha: Tensor) -> Tensor:
    """Log of the evidence α − 1 of concentrations (N, C): −∞ where α ≤ 1, as of Prior Networks."""
    above = log_alpha.clamp(min=0.0)
    return above + torch.log(-torch.expm1(-above))
