"""The temperature at which the softmax of some logits fits their labels best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ELEMENTS = 1 << 22  # logits per step: 32 MiB of float64
_STEPS = 20  # of Newton's method, which needs 3 or 4 from where L-BFGS ends
_CLOSE = 1e-13


@dataclass(frozen=True)
class Fit:
    """How well a factor β = 1/T on the logits fits the labels."""

    loss: float  # mean negative log likelihood, nats
    slope: float  # its derivative by β
    curvature: float  # its second derivative by β, ≥ 0


def fit_at(logits: Tensor, labels: Tensor, factor: float) -> Fit:
    """Measure how well softmax(β·z) of logits (N, C) fits the labels (N,) int64.

    ``factor`` is β; for β = ∞ the slope is that in the limit.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=logits.device)
    step = max(1, _ELEMENTS // logits.shape[1])
    for rows, true in zip(logits.split(step), labels.split(step), strict=True):
        sums += _sums(rows.double(), true.long(), factor)
    loss, slope, curvature = (sums / len(logits)).tolist()
    return Fit(loss, slope, curvature)


def _sums(logits: Tensor, labels: Tensor, factor: float) -> Tensor:
    centred = logits - logits.gather(1, labels.unsqueeze(1))  # so the label's logit is 0
    if math.isinf(factor):
        return torch.stack([logits.new_zeros(()), centred.amax(dim=1).sum(), logits.new_zeros(())])
    scaled = centred * factor
    probabilities = torch.softmax(scaled, dim=1)
    mean = (probabilities * centred).sum(dim=1)
    spread = (probabilities * (centred - mean.unsqueeze(1)).square()).sum()
    return torch.stack([scaled.logsumexp(dim=1).sum(), mean.sum(), spread])


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the T > 0 that minimises the negative log likelihood of softmax(z/T).

    L-BFGS on log T, which keeps T above 0 (Guo et al. 2017), then Newton's method on 1/T, in
    which the loss is convex, to the last digit. Arguments are as for ``fit_at``, and the loss must
    have a minimum: slope < 0 at β = 0, slope > 0 at β = ∞.
    """
    from scipy.optimize import minimize

    def loss_and_slope(log_t: list[float]) -> tuple[float, list[float]]:
        factor = math.exp(-log_t[0])
        fit = fit_at(logits, labels, factor)
        return fit.loss, [-factor * fit.slope]

    # At a T of the size of the logits the loss is neither flat nor steep.
    size = float(logits.float().std(dim=1, correction=0).mean())
    minimum = minimize(loss_and_slope, [math.log(size)], jac=True, method="L-BFGS-B")
    factor = math.exp(-float(minimum.x[0]))
    for _ in range(_STEPS):
        fit = fit_at(logits, labels, factor)
        change = fit.slope / fit.curvature if fit.curvature > 0 else 0.0
        factor = factor - change if change < factor / 2 else factor / 2
        if abs(change) <= _CLOSE * factor:
            break
    return 1 / factor
