"""How the output of a layer becomes one vector per row."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from latentood.errors import ModelError, unknown

Reduction = Callable[[Tensor], Tensor]


def mean(x: Tensor) -> Tensor:
    """Average over positions: maps (B, C, …) → (B, C), tokens (B, L, D) → (B, D)."""
    if x.dim() == 3:
        return x.mean(dim=1)
    return x.flatten(2).mean(dim=2) if x.dim() > 3 else x


def maximum(x: Tensor) -> Tensor:
    """Take the largest over positions, as :func:`mean` averages."""
    if x.dim() == 3:
        return x.amax(dim=1)
    return x.flatten(2).amax(dim=2) if x.dim() > 3 else x


def flatten(x: Tensor) -> Tensor:
    """Keep every value: (B, …) → (B, product)."""
    return x.flatten(1)


def cls(x: Tensor) -> Tensor:
    """Take the first token: (B, L, D) → (B, D)."""
    if x.dim() != 3:
        raise ModelError(f"reduction cls: needs tokens (B, L, D), got {tuple(x.shape)}; use mean")
    return x[:, 0]


REDUCTIONS: dict[str, Reduction] = {"mean": mean, "max": maximum, "flatten": flatten, "cls": cls}


def reduction(name: str) -> Reduction:
    """Find a reduction by name.

    Raises:
        UnknownName: No such reduction (names the nearest).
    """
    if name not in REDUCTIONS:
        raise unknown("reduction", name, REDUCTIONS)
    return REDUCTIONS[name]
