"""Inner products of rows with a whole bank, streamed over the bank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.stats.neighbours.copies import Copies

_ELEMENTS = 1 << 22  # products per step: 32 MiB of float64


@dataclass(frozen=True)
class Guides:
    """A bank whose vectors are made when they are needed, a part at a time."""

    size: int  # M, its number of rows
    vectors: Callable[[slice], Tensor]  # a slice of its rows → float64 vectors (m, D)


def products(rows: Tensor, bank: Guides, own: Copies | None) -> Iterator[tuple[slice, Tensor]]:
    """Stream ``rows · bankᵀ`` for rows (N, D) float64: slices of the bank, their products (N, m).

    ``own`` are the copies of the rows in the bank: a row's product with a copy is −∞.
    """
    step = max(1, _ELEMENTS // max(1, len(rows)))
    for start in range(0, bank.size, step):
        part = slice(start, min(start + step, bank.size))
        values = rows @ bank.vectors(part).mT
        if own is not None:
            values.masked_fill_(own.among(part), -torch.inf)
        yield part, values


def top_mean(rows: Tensor, bank: Guides, k: int, own: Copies | None = None) -> Tensor:
    """Mean of the k largest inner products of each row (N, D) float64 with the bank: (N,).

    The bank has k vectors at least, without copies of a row; ``own`` is as in :func:`products`.
    """
    best = rows.new_empty((len(rows), 0))
    for _, values in products(rows, bank, own):
        best = torch.cat([best, values], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1, sorted=False).values
    # In order, so that the last bit of the sum does not depend on how the bank was split.
    return best.sort(dim=1).values.mean(dim=1)
