"""Batches of a training run: a function of (seed, epoch) alone, whatever was drawn before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from latentood.extraction.run.inputs import loaded

_ODD = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of SplitMix64
_64 = (1 << 64) - 1
_UNNAMED = "train"  # what rows are called in errors where their split has no name


def stream(seed: int, *place: int) -> int:
    """Name a random stream by 63 bits: SplitMix64 over a seed and the numbers of a place."""
    state = seed & _64
    for number in place:
        state = (state + _ODD[0] * (number + 1)) & _64
        state = ((state ^ (state >> 30)) * _ODD[1]) & _64
        state = ((state ^ (state >> 27)) * _ODD[2]) & _64
        state ^= state >> 31
    return state >> 1


def seed_torch(number: int) -> None:
    """Seed torch's generators; ``torch.manual_seed`` also formats a stack trace, in 0.6 ms."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


@dataclass(frozen=True)
class Order:
    """The rows of every batch of a run."""

    rows: int
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Count the batches of an epoch."""
        return -(-self.rows // self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> list[list[int]]:
        """Give the row numbers of the batches of an epoch from one on; the last may be smaller."""
        generator = torch.Generator().manual_seed(stream(self.seed, epoch))
        order = torch.randperm(self.rows, generator=generator)
        return [part.tolist() for part in order.split(self.batch_size)[first:]]


@dataclass(frozen=True)
class Seeded(Dataset[Any]):
    """A data set with random transforms: each item is drawn anew in every epoch, by its row."""

    source: Dataset[Any]
    seed: int

    def __getitem__(self, row: int) -> Any:
        """Draw an item from the streams of its row, in any process."""
        number = stream(self.seed, row)
        seed_torch(number)
        random.seed(number)
        np.random.seed(number & 0xFFFFFFFF)  # torchvision's older transforms draw from it
        return self.source[row]

    @property
    def name(self) -> str:
        """Name of its split, for errors."""
        return getattr(self.source, "name", _UNNAMED)

    @property
    def collate(self) -> Callable[[Any], Any] | None:
        """How items become a batch, where the data set has a way of its own."""
        return getattr(self.source, "collate", None)


def read(source: Dataset[Any], batches: list[list[int]], workers: int) -> Iterator[list[Tensor]]:
    """Load batches in order, each (inputs, labels); a data set may have its own ``collate``.

    Raises:
        DataError: A row cannot be read, also in a loader process, or such a process ended.
    """
    loader = DataLoader(
        source,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=getattr(source, "collate", None),
    )
    yield from loaded(getattr(source, "name", _UNNAMED), loader, workers="training.workers")


def cycle(rows: int, size: int, seed: int, step: int) -> list[int]:
    """Draw the rows of an outlier batch: in shuffled rounds, a function of (seed, step)."""
    first, last = step * size, (step + 1) * size
    rounds = range(first // rows, (last - 1) // rows + 1)
    generators = (torch.Generator().manual_seed(stream(seed, one)) for one in rounds)
    order = torch.cat([torch.randperm(rows, generator=one) for one in generators])
    start = first - rounds.start * rows
    return order[start : start + size].tolist()
