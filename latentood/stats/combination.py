"""Empirical p-values, and combinations of several."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TIE = 1e-10  # of a column's spread: scores this close differ by rounding only
_FAR = 1e-250  # a tail this small is about to underflow
_TERMS = 60  # of a continued fraction that settles after far fewer this deep in the tail


def spread_of(reference: Tensor) -> Tensor:
    """Standard deviation of each column (V, M) → (M,), divisor V."""
    return reference.std(dim=0, correction=0)


def log_p_values(scores: Tensor, reference: Tensor) -> Tensor:
    """Log of the share of reference scores that are as large: log (1 + #{≥}) / (V + 1).

    Scores that differ by rounding count as equal, so that no batch size decides a tie. Scores
    (N, M) have one column for each test; the reference (V, M) is ascending in every column. The
    result is (N, M), from −log(V+1) to 0.
    """
    floor = scores - _TIE * spread_of(reference)
    size = len(reference)
    below = torch.searchsorted(reference.mT.contiguous(), floor.mT.contiguous()).mT
    return ((1 + size - below).double() / (size + 1)).log()


def brown_scale(log_p: Tensor) -> tuple[float, float]:
    """Fit a scaled χ² to −2·Σ log p of tests that are not independent: c ≥ 1 and d ≤ 2M.

    M. Brown, Biometrics 31(4), 1975: ``X/c`` is about χ² with d degrees of freedom, c = v/(4M)
    and d = 8M²/v, for v = 4M + 2·Σ_{i<j} cov(−2 log p_i, −2 log p_j), here with the covariances
    of a sample (V, M) under the null hypothesis (W. Poole et al., Bioinformatics 32(17), 2016). As
    there, tests that oppose each other count as independent.
    """
    tests = log_p.shape[1]
    parts = -2 * log_p
    shared = parts.sum(dim=1).var(correction=0) - parts.var(dim=0, correction=0).sum()
    variance = 4 * tests + max(0.0, float(shared))
    return variance / (4 * tests), 8 * tests**2 / variance


def chi2_surprise(values: Tensor, degrees: float) -> Tensor:
    """Negative log of the upper tail of χ², nats: values (N,) ≥ 0 → (N,) ≥ 0.

    The result is finite where the tail itself underflows. ``degrees`` (of freedom) must be > 0.
    """
    half = values / 2
    shape = torch.full_like(half, degrees / 2)
    body, tail = torch.special.gammainc(shape, half), torch.special.gammaincc(shape, half)
    near = torch.where(body < 0.5, -torch.log1p(-body), -tail.log())
    return torch.where(tail < _FAR, _far_surprise(half, degrees / 2), near)


def _far_surprise(half: Tensor, shape: float) -> Tensor:
    """−log Q(a, y) by Legendre's continued fraction, for y far above a."""
    fraction = half + 2 * _TERMS + 1 - shape
    for k in range(_TERMS, 0, -1):
        fraction = half + 2 * k - 1 - shape - k * (k - shape) / fraction
    return half - shape * half.log() + math.lgamma(shape) + fraction.log()
