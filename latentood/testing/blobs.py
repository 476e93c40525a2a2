"""Synthetic latents of a classifier that works, with every array.

Class blobs, a head that separates them, and stochastic passes through multiplicative noise. OOD
rows are blobs elsewhere, weaker and less sure, as inputs without known features are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.families.score_taps.base import SCORE_TAPS
from latentood.extraction.model.reductions import Gram
from latentood.latents import Latents
from latentood.stats.entropy import kl_entropy

CLASSES, WIDTH, PASSES = 4, 16, 16
CHANNELS, POSITIONS = 4, 9  # of the feature maps behind the Gram matrices
NOISE = 0.35  # of the multiplicative noise of a pass


@dataclass(frozen=True)
class Arrays:
    """The arrays of one split, all of them, float64."""

    logits: Tensor  # (N, C)
    labels: Tensor  # (N,)
    features: Tensor  # (N, D)
    gram: Tensor  # (N, 5·CHANNELS), made by the extractor's reduction
    mc_logits: Tensor  # (N, T, C)
    mc_features: Tensor  # (N, T, D)
    mc_entropy: Tensor  # (N, D)
    scores: Tensor  # (N,), the column of every score tap
    density: Tensor  # (N, C), log density of the features for each class
    head: tuple[Tensor, Tensor]

    @property
    def dirichlet(self) -> Tensor:
        """Log concentrations (N, C), of evidence exp(z)."""
        return torch.logaddexp(self.logits, torch.zeros_like(self.logits))

    @property
    def distance(self) -> Tensor:
        """Squared distances (N, C) to prototypes, which the densities are those of."""
        return -2 * self.density

    def rows(self, chosen: Any) -> Arrays:
        """Pick rows by index, mask or slice."""
        names = [field.name for field in fields(self) if field.name != "head"]
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def cast(self, dtype: torch.dtype) -> Arrays:
        """Round all float arrays to another type."""
        names = [field.name for field in fields(self) if field.name not in ("labels", "head")]
        changed = {name: getattr(self, name).to(dtype) for name in names}
        weight, bias = (tensor.to(dtype) for tensor in self.head)
        return replace(self, head=(weight, bias), **changed)

    def rectified(self) -> Arrays:
        """Features as after a ReLU, and the logits they give."""
        features = self.features.relu()
        return replace(self, features=features, logits=features @ self.head[0].T + self.head[1])

    def with_constant_columns(self) -> Arrays:
        """The same rows with two columns of features and entropies that are constant."""
        spoilt = {}
        for name in ("features", "gram", "mc_entropy"):
            spoilt[name] = getattr(self, name).clone()
            spoilt[name][:, [2, 11]] = 0.1
        return replace(self, **spoilt)

    def latents(self, name: str = "train", *, numpy: bool = False) -> Latents:
        """Wrap them, as tensors or as NumPy arrays."""

        def give(tensor: Tensor) -> Any:
            return tensor.numpy() if numpy else tensor

        return Latents(
            logits=give(self.logits),
            labels=give(self.labels),
            features={"penultimate": give(self.features), "gram": give(self.gram)},
            mc_logits=give(self.mc_logits),
            mc_features={"penultimate": give(self.mc_features)},
            mc_entropy={"penultimate": give(self.mc_entropy)},
            scores={name: give(self.scores) for name in SCORE_TAPS.known()},
            dirichlet=give(self.dirichlet),
            density=give(self.density),
            distance=give(self.distance),
            weighted_logits=give(self.logits + 0.5),
            head=(give(self.head[0]), give(self.head[1])),
            name=name,
        )

    def numpy(self) -> dict[str, Any]:
        """Give key → float64 NumPy array, for the slow formulas."""
        return {
            "logits": self.logits.double().numpy(),
            "labels": self.labels.numpy(),
            "features/penultimate": self.features.double().numpy(),
            "features/gram": self.gram.double().numpy(),
            "mc.logits": self.mc_logits.double().numpy(),
            "mc.features/penultimate": self.mc_features.double().numpy(),
            "mc.entropy/penultimate": self.mc_entropy.double().numpy(),
            **{f"scores/{name}": self.scores.double().numpy() for name in SCORE_TAPS.known()},
            "dirichlet/network": self.dirichlet.double().numpy(),
            "density/network": self.density.double().numpy(),
            "distance/network": self.distance.double().numpy(),
            "weighted_logits/network": (self.logits + 0.5).double().numpy(),
            "head": tuple(t.double().numpy() for t in self.head),
        }


@dataclass(frozen=True)
class Blobs:
    """Three splits of one model."""

    train: Arrays
    id: Arrays
    far: Arrays

    def rectified(self) -> Blobs:
        """The same splits with features as after a ReLU."""
        return Blobs(*(split.rectified() for split in (self.train, self.id, self.far)))


def make_blobs(rows: int = 240, scored: int = 80, seed: int = 0) -> Blobs:
    """Draw the three splits."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    mixing = torch.linalg.qr(normal(WIDTH, WIDTH)).Q
    axes = torch.eye(WIDTH, dtype=torch.float64)  # a class activates its own units, as after ReLU
    means = 4.0 * axes[:CLASSES] + 2.0 * axes[CLASSES]  # ... and one that all classes share
    weight = 1.2 * (means - 0.8 * means.mean(dim=0))
    head = (weight, normal(CLASSES) * 0.1 - 0.5 * weight @ means.mean(dim=0))
    own_style = 0.5 + torch.eye(CLASSES, CHANNELS, dtype=torch.float64)  # a channel per class
    map_draw = torch.Generator().manual_seed(seed + 1)

    def maps(labels: Tensor, style: Tensor) -> Tensor:
        shape = (len(labels), CHANNELS, POSITIONS)
        noise = torch.randn(shape, generator=map_draw, dtype=torch.float64)
        return (style[labels].unsqueeze(2) + 0.2 * noise).clamp(min=0.0)

    shape = torch.linspace(0.3, 0.9, WIDTH, dtype=torch.float64)  # spread differs by direction

    def split(count: int, centres: Tensor, style: Tensor) -> Arrays:
        labels = torch.arange(count) % CLASSES
        features = centres[labels] + (normal(count, WIDTH) * shape) @ mixing
        passes = features.unsqueeze(1) * (1 + NOISE * normal(count, PASSES, WIDTH))
        passes = passes + 0.3 * normal(count, PASSES, WIDTH)
        return Arrays(
            logits=features @ head[0].T + head[1],
            labels=labels,
            features=features,
            gram=Gram().apply(maps(labels, style)),
            mc_logits=passes @ head[0].T + head[1],
            mc_features=passes,
            mc_entropy=kl_entropy(passes),
            scores=torch.cdist(features, means).amin(dim=1),
            density=-0.5 * torch.cdist(features, means).square(),
            head=head,
        )

    train, known = split(rows, means, own_style), split(scored, means, own_style)
    for labels in (train.labels, known.labels):
        wrong = torch.arange(0, len(labels), 40)  # a few rows are misclassified, as always
        labels[wrong] = (labels[wrong] + 1) % CLASSES
    elsewhere = 0.1 * means + 4.0 * axes[CLASSES + 2 : 2 * CLASSES + 2]
    return Blobs(train, known, split(scored, elsewhere, torch.ones_like(own_style)))


def auroc(id_scores: Tensor, ood_scores: Tensor) -> float:
    """Give the chance that an OOD row scores above an ID row, ties counted half; all pairs."""
    above = (ood_scores.unsqueeze(1) > id_scores).double()
    equal = (ood_scores.unsqueeze(1) == id_scores).double()
    return float((above + equal / 2).mean())
