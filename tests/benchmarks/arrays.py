"""Made-up latents of a classifier that works, in float32, as large as an experiment's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latentood.latents import PENULTIMATE, Latents

PASSES = 16
GRAM = "gram"
_CHANNELS, _POWERS = 64, 5


@dataclass(frozen=True)
class Classifier:
    """Class blobs behind a ReLU, and the head that separates them.

    Attributes:
        classes: C.
        width: D.
    """

    classes: int = 10
    width: int = 512

    @cached_property
    def means(self) -> Tensor:
        """Centres of the classes (C, D): each activates its own units."""
        own = torch.rand(self.classes, self.width, generator=torch.Generator().manual_seed(0))
        return torch.where(own > 0.8, 3 * own, 0.3)

    @cached_property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,)."""
        # Centred exactly, its rank would be C − 1, which no trained head has.
        weight = (self.means - 0.8 * self.means.mean(dim=0)) / self.width**0.5
        return weight, -0.5 * (weight * self.means).sum(dim=1)

    def rows(self, count: int, seed: int) -> Rows:
        """Draw the latents of ``count`` inputs."""
        draw = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % self.classes
        noise = torch.randn(count, self.width, generator=draw)
        noise += torch.randn(count, 8, generator=draw) @ torch.randn(8, self.width, generator=draw)
        features = (self.means[labels] + noise).relu_()
        labels[::29] = (labels[::29] + 1) % self.classes  # some are misclassified, as always
        return Rows(features, features @ self.head[0].T + self.head[1], labels, self.head, seed)


@dataclass(frozen=True, eq=False)
class Rows:
    """The arrays of one split."""

    features: Tensor  # (N, D)
    logits: Tensor  # (N, C)
    labels: Tensor  # (N,)
    head: tuple[Tensor, Tensor]
    seed: int

    def first(self, count: int) -> Rows:
        """Take the first rows."""
        rows = Rows(
            self.features[:count], self.logits[:count], self.labels[:count], self.head, self.seed
        )
        rows.__dict__["entropies"] = self.entropies[:count]
        return rows

    def latents(self, name: str = "train") -> Latents:
        """Wrap what a plain forward pass leaves behind; nothing is remembered of it yet."""
        return Latents(
            logits=self.logits,
            labels=self.labels,
            features={PENULTIMATE: self.features},
            mc_entropy={PENULTIMATE: self.entropies},
            head=self.head,
            name=name,
        )

    @cached_property
    def entropies(self) -> Tensor:
        """Something like the entropies of a layer (N, D)."""
        draw = torch.Generator().manual_seed(self.seed + 1)
        return 0.3 * torch.randn(self.features.shape, generator=draw) + self.features.log1p()

    def complete(self, name: str, *, passes: bool) -> Latents:
        """Wrap what the whole library reads.

        Args:
            name: What to call the rows.
            passes: Whether the stochastic passes themselves are there; (N, T, D) is large, and
                no detector is fitted on them.
        """
        draw = torch.Generator().manual_seed(self.seed + 2)

        def noisy(values: Tensor) -> Tensor:  # (N, W) → (N, T, W)
            noise = torch.randn(len(values), PASSES, values.shape[1], generator=draw)
            return noise.mul_(0.1).add_(values.unsqueeze(1))

        gram = torch.rand(len(self.labels), _POWERS * _CHANNELS, generator=draw)
        return Latents(
            logits=self.logits,
            labels=self.labels,
            features={PENULTIMATE: self.features, GRAM: gram},
            mc_logits=noisy(self.logits) if passes else None,
            mc_features={PENULTIMATE: noisy(self.features)} if passes else None,
            mc_entropy={PENULTIMATE: self.entropies},
            head=self.head,
            name=name,
        )
