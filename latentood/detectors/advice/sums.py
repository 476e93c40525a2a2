"""Averages over rows that stream by once, given the class means and the spread of the fit rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from latentood.detectors.statistics.classes import Centres
from latentood.latents import LABELS, LOGITS, Key, Latents
from latentood.stats.collapse import between_whitener, centred_means
from latentood.stats.linalg import EPSILON, lengths
from latentood.stats.moments import MomentSums, RowMoments
from latentood.stats.probabilities import entropy, softmax

CERTAIN = 0.999
"""A largest probability above this is called certain."""


class Sums(Protocol):
    """Something that takes in chunks and gives averages by name."""

    def add(self, chunk: Latents) -> None:
        """Take in the next rows."""

    def result(self) -> dict[str, float]:
        """Give what could be computed."""


def streamed(rows: Latents, keys: Iterable[str], sums: Sums) -> dict[str, float]:
    """Read rows once.

    Raises:
        DataError: A value is not finite; names the row.
    """
    wanted = tuple(keys)
    for chunk in rows.chunks(wanted):
        chunk.require_finite()
        sums.add(chunk)
    return sums.result()


class Averages:
    """Running averages of values by name."""

    def __init__(self) -> None:
        self._sum: dict[str, float] = defaultdict(float)
        self._count: dict[str, int] = defaultdict(int)

    def add(self, name: str, values: Tensor) -> None:
        """Take in values of any shape."""
        self._sum[name] += float(values.double().sum())
        self._count[name] += values.numel()

    def result(self) -> dict[str, float]:
        """Give the averages of what had any value."""
        return {name: self._sum[name] / count for name, count in self._count.items() if count}


@dataclass(frozen=True, eq=False)
class Geometry:
    """What the fit rows of a layer say of it."""

    moments: RowMoments
    centres: Centres | None  # of ≥ 2 classes that differ, where there are labels

    @cached_property
    def whitener(self) -> Tensor:
        """Give A (D, r) with A·Aᵀ = Σ_B⁺ of the class means."""
        return between_whitener(centred_means(self.means))

    @property
    def means(self) -> Tensor:
        """Class means (C, D)."""
        if self.centres is None:
            raise RuntimeError("there are no class means")
        return self.centres.means


class LayerSums:
    """Averages over the rows of a layer: values, norms, tails, and classes where they are known.

    Distances to class means take (n, C) per chunk, never rows by rows.
    """

    def __init__(self, key: Key, geometry: Geometry) -> None:
        self._key = key
        self._geometry = geometry
        self._averages = Averages()
        self._pairs = MomentSums()  # of (norm, largest logit) of a row
        self._powers = torch.zeros_like(geometry.moments.mean.repeat(2, 1))  # Σ of squares, fourths
        self._rows = 0

    def add(self, chunk: Latents) -> None:
        """Take in the next rows."""
        rows = chunk.double(self._key)
        norms = lengths(rows)
        self._values(rows, norms)
        hit = self._outputs(chunk, norms)
        if self._geometry.centres is not None:
            self._classes(chunk, rows)
        if hit is not None:
            self._averages.add("_norm_right", norms[hit])
            self._averages.add("_norm_wrong", norms[~hit])

    def _values(self, rows: Tensor, norms: Tensor) -> None:
        self._averages.add("zeros", rows == 0)
        self._averages.add("negatives", rows < 0)
        wide = rows.shape[1] ** 0.5
        if wide > 1:
            ratio = rows.abs().sum(dim=1) / norms.clamp(min=EPSILON)
            self._averages.add("sparsity", ((wide - ratio) / (wide - 1))[norms > 0])
        squares = (rows - self._geometry.moments.mean).square()
        self._powers += torch.stack([squares.sum(dim=0), squares.square().sum(dim=0)])
        self._rows += len(rows)

    def _outputs(self, chunk: Latents, norms: Tensor) -> Tensor | None:
        """Compare norms with logits; gives which predictions are right, where that is known."""
        if LOGITS not in chunk:
            self._pairs.add(torch.stack([norms, torch.zeros_like(norms)], dim=1))
            return None
        logits = chunk.double(LOGITS)
        self._pairs.add(torch.stack([norms, logits.amax(dim=1)], dim=1))
        return logits.argmax(dim=1) == chunk[LABELS] if LABELS in chunk else None

    def _classes(self, chunk: Latents, rows: Tensor) -> None:
        """Compare rows with the class means of the fit rows."""
        centres = self._geometry.centres
        if centres is None:
            return
        means, mean = centres.means, self._geometry.moments.mean
        shifted = means - mean  # small numbers, whose expanded squares cancel less
        ranking = torch.addmm(shifted.square().sum(dim=1), rows - mean, shifted.mT, alpha=-2)
        nearest = ranking.argmin(dim=1)
        if LOGITS in chunk:
            self._averages.add("nc4", centres.labels[nearest] == chunk[LOGITS].argmax(dim=1))
        if LABELS not in chunk:
            return
        labels = chunk[LABELS].long()
        place = torch.searchsorted(centres.labels, labels).clamp(max=len(means) - 1)
        known = centres.labels[place] == labels
        self._averages.add("ncm_accuracy", (nearest == place)[known])
        self._distances(rows[known], place[known], ranking[known])

    def _distances(self, rows: Tensor, place: Tensor, ranking: Tensor) -> None:
        means = self._geometry.means
        others = ranking.scatter(1, place.unsqueeze(1), torch.inf).argmin(dim=1)
        inside = rows - means[place]
        own, other = lengths(inside), lengths(rows - means[others])
        larger = torch.maximum(own, other)
        gap = torch.where(larger > 0, (other - own) / larger.clamp(min=EPSILON**2), 0.0)
        self._averages.add("silhouette", gap)
        self._averages.add("_within", own.square())
        within = (inside @ self._geometry.whitener).square().sum(dim=1)
        self._averages.add("nc1", within / len(means))

    def result(self) -> dict[str, float]:
        """Give averages, and what follows from them."""
        values = self._averages.result()
        right, wrong = values.pop("_norm_right", 0.0), values.pop("_norm_wrong", None)
        if right and wrong is not None:
            values["norm_wrong"] = wrong / right
        within = values.pop("_within", None)
        if within:
            values["fisher"] = _between(self._geometry.centres) / within
        return values | self._norms() | self._tails()

    def _norms(self) -> dict[str, float]:
        pairs = self._pairs.result()
        norm, covariance = float(pairs.mean[0]), pairs.covariance.matrix
        values = {"norm": norm}
        if norm > 0:
            values["norm_spread"] = float(covariance[0, 0].clamp(min=0).sqrt()) / norm
        sizes = covariance.diagonal()
        if bool((sizes > pairs.noise).all()):
            values["norm_logit"] = float(covariance[0, 1] / sizes.prod().sqrt())
        return values

    def _tails(self) -> dict[str, float]:
        """Give the excess kurtosis of the units that vary, their mean."""
        variance, fourth = self._powers / self._rows
        moments = self._geometry.moments
        varies = variance > EPSILON * moments.mean.square() + moments.noise
        if not bool(varies.any()):
            return {}
        return {"kurtosis": float((fourth[varies] / variance[varies].square()).mean()) - 3}


def _between(centres: Centres | None) -> float:
    """Mean over rows of the squared distance of their class mean to that of all rows: tr Σ_B."""
    if centres is None:
        return 0.0
    shares = centres.counts / centres.counts.sum()
    centred = centres.means - shares @ centres.means
    return float(shares @ centred.square().sum(dim=1))


class OutputSums:
    """Averages over predictions: how right, how sure, and how much they vary over passes."""

    def __init__(self) -> None:
        self._averages = Averages()

    def add(self, chunk: Latents) -> None:
        """Take in the next rows."""
        if LOGITS in chunk:
            self._predictions(chunk)
        if "mc.logits" in chunk:
            self._passes(chunk)

    def _predictions(self, chunk: Latents) -> None:
        logits = chunk.double(LOGITS)
        top = softmax(logits).topk(min(2, logits.shape[1]), dim=1).values
        self._averages.add("confidence", top[:, 0])
        self._averages.add("margin", top[:, 0] - top[:, -1])
        self._averages.add("certain", top[:, 0] > CERTAIN)
        if LABELS in chunk:
            self._averages.add("accuracy", logits.argmax(dim=1) == chunk[LABELS])

    def _passes(self, chunk: Latents) -> None:
        """Take in the mutual information of passes and prediction, by the most there can be."""
        logits = chunk.double("mc.logits")
        if logits.shape[1] < 2 or logits.shape[2] < 2:
            return
        p = softmax(logits)
        information = entropy(p.mean(dim=1)) - entropy(p).mean(dim=1)
        most = math.log(logits.shape[2])
        self._averages.add("pass_information", information.clamp(min=0) / most)

    def result(self) -> dict[str, float]:
        """Give averages, and how far confidence is above accuracy."""
        values = self._averages.result()
        if "accuracy" in values:
            values["overconfidence"] = values["confidence"] - values["accuracy"]
        return values
