"""Differential entropy of many small samples at once: the Kozachenko-Leonenko estimator.

L. Kozachenko, N. Leonenko, "Sample estimate of the entropy of a random vector", Problemy
Peredachi Informatsii 23(2), 1987; in one dimension with the max norm, as LaREx (UAI 2024)
applies it to every dimension of T Monte Carlo samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from latentood.errors import DataError, MissingInput

NEIGHBOURS = 5
MIN_DISTANCE = 1e-5  # floor of ε, so that a constant dimension has a finite entropy
Backend = Literal["torch", "entropy_estimators"]

_NETWORK_LIMIT = 64  # above this a library sort does less work than a sorting network
_CPU_ELEMENTS = 1 << 18  # 2 MiB of float64: temporaries stay in the caches of the processor
_GPU_ELEMENTS = 1 << 25


def kl_entropy(samples: Tensor, *, k: int = NEIGHBOURS, backend: Backend = "torch") -> Tensor:
    """Estimate the entropy of each dimension over T samples, by k-th neighbour distances.

    ``H = ψ(T) − ψ(k) + mean_i log(2·max(ε_i, 1e-5))``, where ``ε_i`` is the distance from
    sample ``i`` to the k-th nearest of the other T−1. On a line the k nearest are consecutive
    in sorted order, so ``ε_i`` is the smallest reach of the k+1 windows that hold ``i``: exact,
    with T·k operations and no distance matrix.

    Args:
        samples: (N, T, D), any float dtype and device. T ≥ 2.
        k: Neighbour to use; T−1 where T ≤ k (the whole sample is then the neighbourhood).
        backend: ``torch`` (ours) or ``entropy_estimators`` (the package, one call per column:
            slow, for comparison; needs the extra ``[entropy-estimators]``).

    Returns:
        (N, D) float64, nats.

    Raises:
        DataError: Not three axes, fewer than two samples, or k below 1.
        MissingInput: The optional package is not installed.
    """
    if samples.dim() != 3:
        raise DataError(f"entropy: samples must be (N, T, D), got {tuple(samples.shape)}")
    passes = samples.shape[1]
    if passes < 2 or k < 1:
        raise DataError(f"entropy: T must be ≥ 2 and k ≥ 1, got T={passes}, k={k}; raise passes")
    k = min(k, passes - 1)
    if backend == "entropy_estimators":
        return _by_package(samples, k)
    constant = torch.digamma(torch.tensor([passes, k], dtype=torch.float64))
    offset = float(constant[0] - constant[1])
    budget = _CPU_ELEMENTS if samples.device.type == "cpu" else _GPU_ELEMENTS
    step = max(1, budget // max(1, passes * samples.shape[2]))
    parts = [_mean_log_reach(part, k) for part in samples.split(step)]
    return torch.cat(parts) + offset if parts else samples.new_zeros((0, samples.shape[2])).double()


def _mean_log_reach(samples: Tensor, k: int) -> Tensor:
    """Mean over samples of log(2·max(ε, MIN_DISTANCE)): (N, T, D) → (N, D)."""
    # Sorting is exact in the type of the samples, and twice as fast in float32 as in float64.
    native = samples if samples.dtype in (torch.float32, torch.float64) else samples.float()
    ordered = _sorted_passes(native).double()  # (T, N, D)
    windows = len(ordered) - k  # window w covers the sorted samples w to w + k
    first, last = ordered[:windows], ordered[k:]
    below, above = torch.empty_like(first), torch.empty_like(last)
    reach = torch.full_like(ordered, torch.inf)
    for place in range(k + 1):
        inner, so_far = (whole[place : place + windows] for whole in (ordered, reach))
        torch.sub(inner, first, out=below)
        torch.sub(last, inner, out=above)
        torch.minimum(so_far, torch.maximum(below, above, out=below), out=so_far)
    return reach.clamp_(min=MIN_DISTANCE).mul_(2).log_().mean(dim=0)


def _sorted_passes(samples: Tensor) -> Tensor:
    """Sort over the passes: (N, T, D) → (T, N, D)."""
    passes = samples.shape[1]
    if passes > _NETWORK_LIMIT:
        return samples.movedim(1, -1).sort(dim=-1).values.movedim(-1, 0).contiguous()
    columns = list(samples.unbind(1))
    for low, high in _sorting_network(passes):
        smaller = torch.minimum(columns[low], columns[high])
        columns[high] = torch.maximum(columns[low], columns[high])
        columns[low] = smaller
    return torch.stack(columns)


@lru_cache(maxsize=64)
def _sorting_network(size: int) -> tuple[tuple[int, int], ...]:
    """Comparators of Batcher's merge exchange (Knuth, TAOCP vol. 3, 5.2.2, algorithm M).

    A fixed sequence of min/max pairs sorts whole arrays of samples at once: 63 comparators for
    16 samples, each one vector instruction wide, where a sort call per row would branch.
    """
    comparators = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            comparators += [(i, i + d) for i in range(size - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(comparators)


def _by_package(samples: Tensor, k: int) -> Tensor:
    """One call of the entropy_estimators package per row and dimension."""
    try:
        from entropy_estimators import continuous
    except ImportError:
        raise MissingInput(
            "entropy: backend entropy_estimators needs that package, and it is not installed; "
            'run pip install "latentood[entropy-estimators]" or use backend torch'
        ) from None
    columns = samples.double().cpu().movedim(1, -1)
    flat = columns.reshape(-1, columns.shape[-1]).numpy()
    values = [continuous.get_h(c, k=k, norm="max", min_dist=MIN_DISTANCE) for c in flat]
    return torch.tensor(values, dtype=torch.float64).reshape(columns.shape[:-1])
