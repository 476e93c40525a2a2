"""Inner products of rows with a whole bank, streamed over the bank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_ELEMENTS = 1 << 22  # products per step: 32 MiB of float64


@dataclass(frozen=True)
class Guides:
    """A bank whose vectors are made when they are needed, a part at a time."""

    size: int  # M, its number of rows
    vectors: Callable[[slice], Tensor]  # a slice of its rows → float64 vectors (m, D)


def products(rows: Tensor, bank: Guides, own: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Stream ``rows · bankᵀ`` for rows (N, D) float64: slices of the bank, their products (N, m).

    ``own`` (N,) is the position of each row in the bank, −1 if it is not there, None if no row is:
    a row's product with itself is −∞.
    """
    step = max(1, _ELEMENTS // max(1, len(rows)))
    for start in range(0, bank.size, step):
        part = slice(start, min(start + step, bank.size))
        values = rows @ bank.vectors(part).mT
        if own is not None:
            here = torch.arange(part.start, part.stop, device=values.device)
            values.masked_fill_(here == own.unsqueeze(1), -torch.inf)
        yield part, values


def top_mean(rows: Tensor, bank: Guides, k: int, own: Tensor | None = None) -> Tensor:
    """Mean of the k largest inner products of each row (N, D) float64 with the bank: (N,).

    The bank has k vectors at least, not counting a row itself; ``own`` is as in :func:`products`.
    """
    best = rows.new_empty((len(rows), 0))
    for _, values in products(rows, bank, own):
        best = torch.cat([best, values], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1, sorted=False).values
    # In order, so that the last bit of the sum does not depend on how the bank was split.
    return best.sort(dim=1).values.mean(dim=1)
