"""Ways to reshape activations: pure functions of features (N, D) float64.

``most_active`` finds what the per-row methods share, the activations of the units that stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentood.stats.quantiles import percentile


def clip(features: Tensor, top: Tensor) -> Tensor:
    """Clip above a threshold: min(h, t), for ReAct."""
    return torch.minimum(features, top)


def rectify(features: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Set what is below a threshold to 0 and clip above another one, for VRA-P."""
    return torch.where(features < low, 0.0, torch.minimum(features, high))


def kept_units(width: int, percent: float) -> int:
    """Count the units that stay when a percentage is pruned: D − round(D·p/100), at least 1."""
    return max(1, width - round(width * percent / 100))


def most_active(features: Tensor, percent: float) -> Tensor:
    """Give the activations (N, k), unordered, that stay when the lowest ``percent`` are pruned."""
    return features.topk(kept_units(features.shape[1], percent), dim=1, sorted=False).values


def prune(features: Tensor, percent: float) -> Tensor:
    """Set the lowest ``percent`` of every row to 0; units as active as the last kept one stay."""
    least = most_active(features, percent).amin(dim=1, keepdim=True)
    return torch.where(features >= least, features, 0.0)


def even_out(features: Tensor, percent: float) -> Tensor:
    """Spread the sum of a row evenly over the active units that stay when others are pruned."""
    kept = prune(features, percent) > 0
    share = features.sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(kept, share, 0.0)


def concentration(features: Tensor, percent: float) -> Tensor:
    """Divide the sum of activations (N, D) ≥ 0 by that of the units that stay: (N, 1) in [1, D].

    It is 1 for a row of zeros, where the quotient has no value.
    """
    kept = most_active(features, percent).sum(dim=1, keepdim=True)
    return torch.where(kept > 0, features.sum(dim=1, keepdim=True) / kept, 1.0)


def concentration_by_row(features: Tensor, percents: Tensor) -> Tensor:
    """Divide as :func:`concentration` does, with a percentage for each row, (N,) in [0, 100)."""
    running = features.sort(dim=1, descending=True).values.cumsum(dim=1)
    width = features.shape[1]
    kept = (width - (width * percents / 100).round().long()).clamp(min=1)
    largest = running.gather(1, kept.unsqueeze(1) - 1)
    return torch.where(largest > 0, running[:, -1:] / largest, 1.0)


def sharpen(features: Tensor, percent: float) -> Tensor:
    """Scale every row by exp(s1/s2), for SCALE and, before pruning, ASH-S."""
    return features * concentration(features, percent).exp()


def sparsify(weight: Tensor, mean: Tensor, percent: float) -> Tensor:
    """Keep the weights (C, D) whose mean contribution is above a percentile of all, for DICE.

    ``mean`` (D,) is that of the features; other weights become 0.
    """
    contributions = weight * mean
    return torch.where(contributions > percentile(contributions, percent), weight, 0.0)
