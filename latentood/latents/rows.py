"""One array of rows: read on demand, kept once it was read, or already in memory."""

from __future__ import annotations

import math
import threading
from typing import Protocol, runtime_checkable

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


class Budget:
    """Bytes that arrays read from a cache may occupy in memory, shared by all that hold it.

    With a limit of 0 nothing is kept, and whatever is needed again is read again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def claim(self, size: int) -> bool:
        """Take so many bytes, if they are left."""
        with self._lock:
            fits = self.used + size <= self.limit
            self.used += size if fits else 0
            return fits

    def give_back(self, size: int) -> None:
        """Return bytes that were claimed."""
        with self._lock:
            self.used -= size


class Kept:
    """Rows that stay in memory once they were read, first come, as far as a budget allows.

    Arrays are scanned from front to back, again and again; what was read last is then what is
    needed last, so nothing is ever evicted for something newer. One chunk is kept whatever
    the budget is, and so are arrays of one number per row, such as labels.
    """

    _MOST_ROWS = 4096
    _ALIGNMENT = 256  # rows: where chunks of a cache end
    _MOST_ELEMENTS = 1 << 23

    def __init__(self, rows: Rows, budget: Budget) -> None:
        self.shape = rows.shape
        self._rows = rows
        self._budget = budget
        width = math.prod(rows.shape[1:])
        fitting = self._MOST_ELEMENTS // max(1, width) // self._ALIGNMENT * self._ALIGNMENT
        self._chunk_rows = min(self._MOST_ROWS, max(self._ALIGNMENT, fitting))
        self._chunks: dict[int, Tensor] = {}
        self._at_hand: tuple[int, Tensor] | None = None
        self._claimed = 0

    def __del__(self) -> None:
        """Return the bytes to the budget."""
        self._budget.give_back(self._claimed)

    def read(self, start: int, stop: int) -> Tensor:
        """Give rows ``start`` to ``stop``, from memory where they are there."""
        step = self._chunk_rows
        stop = min(stop, self.shape[0])
        parts = [
            self._chunk(number)[max(0, start - number * step) : stop - number * step]
            for number in range(start // step, -(-stop // step))
        ]
        if not parts:
            return self._rows.read(start, start)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _chunk(self, number: int) -> Tensor:
        if number in self._chunks:
            return self._chunks[number]
        if self._at_hand is not None and self._at_hand[0] == number:
            return self._at_hand[1]
        self._at_hand = None  # before the next one is read, so that never two are held
        start = number * self._chunk_rows
        chunk = self._rows.read(start, min(start + self._chunk_rows, self.shape[0]))
        if len(self.shape) == 1:
            self._chunks[number] = chunk
        elif self._budget.claim(chunk.nbytes):
            self._claimed += chunk.nbytes
            self._chunks[number] = chunk
        else:
            self._at_hand = (number, chunk)
        return chunk


def first_not_finite(values: Tensor) -> int | None:
    """Find the first row with NaN or infinity; ``None`` if all are finite."""
    if not values.is_floating_point():
        return None
    # A sum is finite only if every term is; the slow search runs on suspicion alone.
    wide = torch.float32 if values.dtype.itemsize < 4 else values.dtype
    if bool(torch.isfinite(values.sum(dtype=wide))):
        return None
    bad = ~torch.isfinite(values).flatten(1 if values.dim() > 1 else 0)
    where = bad.any(dim=1) if bad.dim() > 1 else bad
    return int(where.nonzero()[0]) if bool(where.any()) else None
