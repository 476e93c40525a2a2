"""Exact percentiles, of values in memory or of values that stream by several times.

The percentile is that of NumPy's default: linear between the two nearest order statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_DIGIT_BITS = {True: 8, False: 16}  # many columns: 256 counters each; one: 65,536 and fewer reads


def order(count: int, percent: float) -> tuple[int, float]:
    """Find where a percentile, from 0 to 100, lies among ``count`` sorted values.

    Gives the rank of the value below, from 0, and the share of the way to the next one, in [0, 1).
    """
    position = (count - 1) * (percent / 100)
    rank = math.floor(position)
    return rank, position - rank


def percentile(values: Tensor, percent: float) -> Tensor:
    """Give a percentile, from 0 to 100, of values of any shape: a scalar of their dtype."""
    flat = values.flatten()
    rank, share = order(len(flat), percent)
    below = flat.kthvalue(rank + 1).values
    if share == 0:
        return below
    return below + share * (flat.kthvalue(rank + 2).values - below)


class OrderStatistics:
    """Values of given ranks (0 = the smallest) in every column, by radix selection.

    Floats are compared as integers of the same order; half precision is compared as float32. Each
    read of all rows counts the next digit of the values that agree with what is known so far; 2
    reads settle one column of float32, 4 many columns (twice as many for float64). Nothing is kept
    but counters: 512 KiB for one column, 2 KiB for each of many, times the ranks.
    """

    def __init__(
        self, ranks: Sequence[int], columns: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._width = 64 if dtype == torch.float64 else 32
        self._bits = _DIGIT_BITS[columns > 1]
        self._shift = self._width - self._bits
        self._column = torch.arange(columns, device=device) << self._bits
        wanted = torch.tensor(ranks, dtype=torch.int64, device=device)
        self._left = wanted.unsqueeze(1).expand(-1, columns).contiguous()  # (R, columns)
        self._known = torch.zeros_like(self._left)  # leading digits, as one signed number
        self._begin()

    @staticmethod
    def counter_bytes(columns: int) -> int:
        """Give the bytes of the counters of one rank."""
        return (8 << _DIGIT_BITS[columns > 1]) * columns

    @property
    def reads(self) -> int:
        """How often all rows must go by."""
        return self._width // self._bits

    def add(self, rows: Tensor) -> None:
        """Count some rows (n, columns) in this read."""
        keys = _ordered(rows)
        first = self._shift == self._width - self._bits
        digits = (keys >> self._shift).long()
        if first:
            digits += 1 << (self._bits - 1)  # the leading digit carries the sign
        else:
            digits &= (1 << self._bits) - 1
        digits += self._column
        leading = None if first else keys >> (self._shift + self._bits)
        for known, counts in zip(self._prefixes, self._counts, strict=True):
            agreeing = digits if leading is None else digits[leading == known]
            counts += torch.bincount(agreeing.flatten(), minlength=len(counts))

    def end_read(self) -> None:
        """Settle one more digit of every value."""
        size = 1 << self._bits
        for rank, prefix in enumerate(self._prefix):
            below = self._counts[prefix].view(-1, size).cumsum(dim=1)
            digit = torch.searchsorted(below, self._left[rank].unsqueeze(1), right=True)
            before = below.gather(1, (digit - 1).clamp(min=0)).masked_fill(digit == 0, 0)
            self._left[rank] -= before.squeeze(1)
            digit = digit.squeeze(1)
            if self._shift == self._width - self._bits:
                digit = digit - (size >> 1)
            self._known[rank] = self._known[rank] * size + digit
        self._shift -= self._bits
        if self._shift >= 0:
            self._begin()

    def result(self) -> Tensor:
        """Give the values, (R, columns) float64, after the last read has ended."""
        if self._width == 64:
            return _reordered(self._known).view(torch.float64)
        return _reordered(self._known.int()).view(torch.float32).double()

    def _begin(self) -> None:
        """Share the counting between ranks that agree so far in every column."""
        prefixes, self._prefix = self._known.unique(dim=0, return_inverse=True)
        self._prefixes = list(prefixes)
        size = len(self._column) << self._bits
        device = self._known.device
        self._counts = [torch.zeros(size, dtype=torch.int64, device=device) for _ in prefixes]


def _ordered(values: Tensor) -> Tensor:
    """Read floats as signed integers that compare alike."""
    if values.dtype == torch.float64:
        return _reordered(values.view(torch.int64))
    return _reordered(values.float().view(torch.int32))


def _reordered(bits: Tensor) -> Tensor:
    """Turn the order of negative numbers round: IEEE floats are a sign and a magnitude."""
    return bits ^ ((bits >> (bits.element_size() * 8 - 1)) & torch.iinfo(bits.dtype).max)
