"""Which rows of a bank are copies of the rows that are compared with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Copies:
    """Rows with marks: a row of the bank with the mark of a compared row is a copy of it.

    Marks may be positions or digests. A row is compared with all rows but its copies.
    """

    bank: Tensor  # (M,) int64
    rows: Tensor  # (N,) int64
    counts: Tensor  # (N,) int64, copies of each row in the bank

    @classmethod
    def of(cls, bank: Tensor, rows: Tensor) -> Copies | None:
        """Compare marks (M,) and (N,); None if no row has a copy, which costs nothing later."""
        shared = bank[torch.isin(bank, rows)].sort().values
        if not len(shared):
            return None
        counts = torch.searchsorted(shared, rows, right=True) - torch.searchsorted(shared, rows)
        return cls(bank, rows, counts)

    @property
    def most(self) -> int:
        """Count the copies of the row that has most."""
        return int(self.counts.max())

    def among(self, places: slice | Tensor) -> Tensor:
        """Test which rows of the bank are copies: a slice of it, or places (N, n) → (N, n)."""
        return self.bank[places] == self.rows.unsqueeze(1)

    def __getitem__(self, rows: slice | Tensor) -> Copies:
        """Give those of some of the compared rows."""
        return Copies(self.bank, self.rows[rows], self.counts[rows])
