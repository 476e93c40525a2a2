"""What detectors ask of the classes of the fit rows: means, and the scatter of each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics import Pass
from latentood.latents import LABELS, Accumulator, Latents
from latentood.stats.moments import GroupSums
from latentood.stats.products import add_self_products


@dataclass(frozen=True, eq=False)
class Centres:
    """Means of the classes that occur.

    Attributes:
        labels: (K,) int64, ascending.
        counts: (K,) float64, rows of each class.
        means: (K, D) float64.
    """

    labels: Tensor  # (K,)
    counts: Tensor  # (K,)
    means: Tensor  # (K, D)


@dataclass(frozen=True)
class ClassMeans:
    """Class means alone, without the scatter that ``ClassMoments`` needs."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)

    def start(self, source: Latents) -> Accumulator[Centres]:
        """Begin a pass over ``source``."""
        present = source[LABELS].long().unique()
        sums = GroupSums(len(present), source.shape(self.key)[1], present.device)

        def take(block: Latents) -> None:
            group = torch.searchsorted(present, block[LABELS].long())
            sums.add(block[self.key], group)

        return Pass(take, lambda: Centres(present, sums.counts, sums.means()))


@dataclass(frozen=True)
class ClassScatters:
    """The second pass of ddu: scatter of every class about its mean, once the means are known.

    The result is (K, D, D) float64, not divided by the counts.
    """

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Find the means and begin the pass."""
        centres = source.compute(ClassMeans(self.key))
        classes, width = centres.means.shape
        scatters = centres.means.new_zeros(classes, width, width)

        def take(block: Latents) -> None:
            group = torch.searchsorted(centres.labels, block[LABELS].long())
            order = group.argsort(stable=True)
            centred = block.double(self.key)[order] - centres.means[group[order]]
            sizes = torch.bincount(group, minlength=classes).tolist()
            add_self_products(scatters, centred.split(sizes))

        return Pass(take, lambda: scatters)
