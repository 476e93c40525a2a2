"""Means and scatter from one read of rows, in float64, without cancellation.

Chunks are merged by the pairwise update of T. Chan, G. Golub, R. LeVeque, "Algorithms for
computing the sample variance", The American Statistician 37(3), 1983: every chunk is centred on
its own mean, so an offset common to all rows costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latentood.stats.linalg import EPSILON, FLAT, Covariance, parts
from latentood.stats.products import SelfProduct, self_product

# Elements that are multiplied together: every change between the threads of torch and those of
# :mod:`latentood.stats.products` costs milliseconds.
_TOGETHER = 1 << 23
_STEPS = 64


@dataclass(frozen=True, eq=False)
class RowMoments:
    """Count, mean and scatter of all rows."""

    count: int
    mean: Tensor  # (D,) float64
    scatter: Tensor  # (D, D) float64, Σ(h−mean)(h−mean)ᵀ, not divided by the count

    @cached_property
    def noise(self) -> float:
        """Rounding to expect in an eigenvalue of a covariance derived from this scatter."""
        size = float(torch.linalg.matrix_norm(self.scatter)) / self.count
        return EPSILON * len(self.mean) * size + FLAT * float(self.mean @ self.mean)

    @cached_property
    def covariance(self) -> Covariance:
        """Scatter divided by the count (maximum likelihood)."""
        return Covariance(self.scatter / self.count, self.noise)

    def tied(self, counts: Tensor, means: Tensor) -> Covariance:
        """Covariance within classes: Σ_c Σ_{i∈c} (h−μ_c)(h−μ_c)ᵀ / N.

        It is the total scatter less that of the class means (K, D), with ``counts`` (K,) of rows.
        """
        between = self_product((means - self.mean) * counts.sqrt().unsqueeze(1))
        return Covariance((self.scatter - between) / self.count, self.noise)

    def about(self, origin: Tensor) -> Covariance:
        """Mean of (h−origin)(h−origin)ᵀ for another origin (D,)."""
        shift = self.mean - origin
        noise = self.noise + EPSILON * len(shift) * float(shift @ shift)
        return Covariance(self.covariance.matrix + torch.outer(shift, shift), noise)


class MomentSums:
    """Running count, mean and scatter."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Merge the next rows (n, D), n ≥ 1; they are kept for a while, so leave them untouched."""
        self._waiting.append(rows)
        if sum(map(Tensor.numel, self._waiting)) >= _TOGETHER:
            self._merge()

    def _merge(self) -> None:
        """Merge the chunks that wait, as one."""
        chunks, self._waiting = self._waiting, []
        count = sum(map(len, chunks))
        if not self._count:
            self._within = SelfProduct(chunks[0].shape[1], chunks[0].device)
            self._mean = self._within.add_about_mean(chunks)
            # What lies between merged chunks, added up many at a time. One array, as small
            # ones that stay would keep the memory of large ones that go from being used again.
            self._between = self._mean.new_zeros(_STEPS, len(self._mean))
            self._steps = 0
        else:
            step = self._within.add_about_mean(chunks) - self._mean
            share = count / (self._count + count)
            self._between[self._steps] = step * (self._count * share) ** 0.5
            self._mean += step * share
            self._steps += 1
            if self._steps == _STEPS:
                self._add_between()
        self._count += count

    def _add_between(self) -> None:
        self._within.add(self._between[: self._steps])
        self._steps = 0

    def result(self) -> RowMoments:
        """Give the moments; at least one chunk must have been added."""
        if self._waiting:
            self._merge()
        if not self._count:
            raise RuntimeError("moments need at least one chunk of rows")
        self._add_between()
        return RowMoments(self._count, self._mean, self._within.total())


class ClassSums:
    """Running count and sum of the rows, of width D, of each of K classes."""

    def __init__(self, classes: int, width: int, device: torch.device) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64, device=device)  # (K,)
        self.sums = torch.zeros(classes, width, dtype=torch.float64, device=device)  # (K, D)

    def add(self, rows: Tensor, label: Tensor) -> None:
        """Add rows (n, D) of any float dtype to their classes (n,) int64 in [0, K)."""
        self.counts += torch.bincount(label, minlength=len(self.counts))
        if rows.device.type == "cpu":  # in parts whose float64 stays in the processor's cache
            at = 0
            for part in parts(rows):
                self.sums.index_add_(0, label[at : at + len(part)], part.double())
                at += len(part)
        else:  # index_add_ adds in no fixed order there, so two fits would differ in a bit
            member = torch.nn.functional.one_hot(label, len(self.counts)).double()
            self.sums.addmm_(member.mT, rows.double())

    def means(self) -> Tensor:
        """Mean of every class (K, D); 0 where a class is empty."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(1)


def column_scale(mean: Tensor, variance: Tensor) -> Tensor:
    """Give what columns are divided by to have variance 1: their spread (D,), or 1 if constant."""
    spread = variance.sqrt()
    # The mean of equal numbers is off by rounding, and so is their spread about it.
    return torch.where(spread > 1e3 * EPSILON * mean.abs(), spread, 1.0)
