"""Maximum likelihood of the two-parameter Weibull distribution, for many small samples at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EQUAL = 1e-12  # a mean logarithm this close to the largest: all values equal, up to rounding
_HALVINGS = 64  # of a bracket in the logarithm: the last ones no longer change a float64


@dataclass(frozen=True, eq=False)
class Weibulls:
    """One distribution for each sample: ``F(x) = 1 − exp(−(x/λ)^κ)``."""

    shape: Tensor  # (S,) κ > 0; 0 where a sample cannot be fitted
    log_scale: Tensor  # (S,) log λ


def fit_weibulls(samples: Tensor) -> Weibulls:
    """Fit every row of samples (S, K) float64; what is not > 0 (padding, zeros) is left out.

    The location is fixed at 0. The likelihood equation of the shape,
    ``Σ xᵏ log x / Σ xᵏ − 1/k = mean log x``, increases in k and has one root: the parameters
    are those ``scipy.stats.weibull_min.fit(x, floc=0)`` searches for one sample at a time. A sample
    without two different values > 0 has no distribution (shape 0).
    """
    used = samples > 0
    count = used.sum(dim=1).double()
    logs = torch.where(used, samples, 1.0).log()
    top = torch.where(used, logs, -torch.inf).amax(dim=1)
    # Counted from the largest value no power overflows, and a tail of nearly equal values
    # keeps its digits.
    below = torch.where(used, logs - top.unsqueeze(1), 0.0)
    mean = below.sum(dim=1) / count
    fitted = mean < -_EQUAL  # not where a sample is empty (NaN) or of one value only
    mean = torch.where(fitted, mean, -1.0)

    def excess(shape: Tensor) -> Tensor:
        weights = (shape.unsqueeze(1) * below).exp() * used
        return (weights * below).sum(dim=1) / weights.sum(dim=1) - 1 / shape - mean

    low = -1 / mean  # where 1/k makes up for the mean, and the weighted mean is still below 0
    high = 2 * low
    while bool((short := fitted & (excess(high) < 0)).any()):
        high = torch.where(short, 2 * high, high)
    for _ in range(_HALVINGS):
        middle = (low * high).sqrt()
        rising = excess(middle) < 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    shape = (low * high).sqrt()
    powers = ((shape.unsqueeze(1) * below).exp() * used).sum(dim=1) / count
    log_scale = top + powers.log() / shape
    return Weibulls(torch.where(fitted, shape, 0.0), torch.where(fitted, log_scale, 0.0))
