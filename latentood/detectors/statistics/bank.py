"""Fit rows that are kept: a share, a share of every class, a number of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics.base import OfArray
from latentood.latents import HASHES, LABELS, Accumulator, Latents, Reading
from latentood.stats.neighbours.copies import Copies


@dataclass(frozen=True, eq=False)
class BankRows:
    """Fit rows that are kept."""

    rows: Tensor  # (M, D) in their stored dtype: half precision stays half the size
    positions: Tensor  # (M,) int64, ascending: where in the fit split they are
    origin: Tensor  # (32,) uint8, digest of the identity of the fit split
    hashes: Tensor | None  # (M,) int64, digests of their inputs, where the fit split has them


@dataclass(frozen=True)
class Bank(OfArray):
    """A share of the rows, drawn without replacement."""

    share: float
    seed: int

    def nbytes(self, source: Latents) -> int:
        """Estimate the bank, in float32."""
        return int(4 * self.share * math.prod(source.shape(self.key)))

    def start(self, source: Latents) -> Accumulator[BankRows]:
        """Begin a read of ``source``."""
        chosen = self.chosen(source)
        bank = source.read(self.key, 0, 1).new_empty(len(chosen), *source.shape(self.key)[1:])

        def take(chunk: Latents) -> None:
            first = chunk.offset - source.offset
            low, high = torch.searchsorted(chosen, torch.tensor([first, first + len(chunk)]))
            bank[low:high] = chunk[self.key][(chosen[low:high] - first).to(bank.device)]

        def finish() -> BankRows:
            positions = (chosen + source.offset).to(bank.device)
            hashes = source[HASHES].cpu()[chosen] if HASHES in source else None
            return BankRows(
                bank,
                positions,
                origin_digest(source).to(bank.device),
                None if hashes is None else hashes.to(bank.device),
            )

        return Reading(take, finish)

    def chosen(self, source: Latents) -> Tensor:
        """Draw the row numbers to keep, ascending, on the CPU."""
        return drawn(len(source), self.share, self.seed)


def drawn(rows: int, share: float, seed: int) -> Tensor:
    """Draw a share of row numbers, at least one, ascending; the seed alone decides which."""
    count = max(1, round(share * rows))
    if count >= rows:
        return torch.arange(rows)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def origin_digest(latents: Latents) -> Tensor:
    """Digest of the identity of a split (32,) uint8: kept in a state, it identifies its rows."""
    digest = hashlib.sha256(latents.origin.encode()).digest()
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)


def own_copies(bank: Mapping[str, Tensor], rows: Latents) -> Copies | None:
    """Find the rows that are themselves in a bank, so that none is its own neighbour.

    ``bank`` is the state that ``bank_state`` gives. Where both have digests of their inputs, rows
    with the same one are copies, whatever split they are from; else a row of the fit split is known
    by its position. None if no row has a copy.
    """
    if "hashes" in bank and HASHES in rows:
        return Copies.of(bank["hashes"], rows[HASHES])
    if not torch.equal(bank["origin"].cpu(), origin_digest(rows)):
        return None
    positions = bank["positions"]
    here = torch.arange(rows.offset, rows.offset + len(rows), device=positions.device)
    return Copies.of(positions, here)


@dataclass(frozen=True)
class ClassBank(Bank):
    """A share of the rows of every class, at least one of each, drawn without replacement.

    Equal shares and seeds keep the same rows, whatever the key.
    """

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)

    def chosen(self, source: Latents) -> Tensor:
        """Give every row a random place in its class and keep the first ones."""
        labels = source[LABELS].long().cpu()
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        order = shuffled[labels[shuffled].argsort(stable=True)]  # by class, at random within
        counts = torch.bincount(labels)
        first = counts.cumsum(0) - counts
        place = torch.arange(len(labels)) - first[labels[order]]
        kept = (self.share * counts).round().clamp(min=1)
        return order[place < kept[labels[order]]].sort().values


@dataclass(frozen=True)
class Sample(OfArray):
    """A number of rows, or all if there are no more, drawn without replacement."""

    rows: int
    seed: int

    def nbytes(self, source: Latents) -> int:
        """Estimate the rows, in float32."""
        return self._bank(source).nbytes(source)

    def start(self, source: Latents) -> Accumulator[BankRows]:
        """Begin a read of ``source``."""
        return self._bank(source).start(source)

    def _bank(self, source: Latents) -> Bank:
        return Bank(self.key, min(1.0, self.rows / len(source)), self.seed)
