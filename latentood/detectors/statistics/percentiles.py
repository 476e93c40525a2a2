"""Exact percentiles of features, streamed: a statistic of several reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics.base import OfArray, width_of
from latentood.latents import Accumulator, Latents, Reading
from latentood.stats.quantiles import OrderStatistics, order


@dataclass(frozen=True)
class Percentiles(OfArray):
    """Percentiles of an array (N, D), exact whatever the number of rows.

    Rows go by 2 times for float32 (4 times with ``per_unit``), twice as often for float64;
    only counters are kept (see :class:`OrderStatistics`). The result is (len(percents), D) with
    ``per_unit``, else (len(percents), 1), float64.

    Attributes:
        key: The array.
        percents: Which, from 0 to 100.
        per_unit: Each unit by itself, instead of the values of all units together.
    """

    percents: tuple[float, ...]
    per_unit: bool = False

    def nbytes(self, source: Latents) -> int:
        """Estimate the counters, held about twice, of the ≤ 2 ranks a percentile lies between."""
        columns = width_of(source, self.key) if self.per_unit else 1
        return 2 * 2 * len(self.percents) * OrderStatistics.counter_bytes(columns)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Make all reads but the last, and begin that."""
        rows, width = source.shape(self.key)
        count, columns = (rows, width) if self.per_unit else (rows * width, 1)
        places = [order(count, percent) for percent in self.percents]
        ranks = sorted({min(rank + step, count - 1) for rank, _ in places for step in (0, 1)})
        sample = source.read(self.key, 0, 1)
        search = OrderStatistics(ranks, columns, sample.dtype, sample.device)

        def take(chunk: Latents) -> None:
            search.add(chunk[self.key].reshape(-1, columns))

        def finish() -> Tensor:
            search.end_read()
            values = dict(zip(ranks, search.result(), strict=True))
            between = [
                values[rank] + share * (values[min(rank + 1, count - 1)] - values[rank])
                for rank, share in places
            ]
            return torch.stack(between)

        for _ in range(search.reads - 1):
            for chunk in source.chunks(self.keys()):
                take(chunk)
            search.end_read()
        return Reading(take, finish)
