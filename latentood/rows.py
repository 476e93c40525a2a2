"""One array of rows: read on demand, or already in memory."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Rows(Protocol):
    """An array whose rows are read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the number of rows first."""

    def read(self, start: int, stop: int) -> Tensor:
        """Read rows ``start`` to ``stop`` as a CPU tensor of the stored dtype."""


class InMemory:
    """Rows of a tensor that is already there."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape = tuple(tensor.shape)

    def read(self, start: int, stop: int) -> Tensor:
        """Take rows ``start`` to ``stop``."""
        return self.tensor[start:stop]


def as_tensor(value: Any) -> Tensor:
    """Take a tensor, a NumPy array or a nested list as a tensor without gradients."""
    return value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)


def first_not_finite(values: Tensor) -> int | None:
    """Find the first row with NaN or infinity; ``None`` if all are finite."""
    # A sum is finite only if every term is; the slow search runs on suspicion alone.
    if not values.is_floating_point() or bool(torch.isfinite(values.sum())):
        return None
    bad = ~torch.isfinite(values).flatten(1 if values.dim() > 1 else 0)
    where = bad.any(dim=1) if bad.dim() > 1 else bad
    return int(where.nonzero()[0]) if bool(where.any()) else None
