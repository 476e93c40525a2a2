"""GROOD: how far an input's gradient at an OOD prototype is from those of the fit rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from latentood.detectors.families.score_taps.base import Network, ScoreTap
from latentood.detectors.statistics.classes import ClassMeans
from latentood.errors import DataError, ModelError
from latentood.latents import LABELS, LOGITS, PENULTIMATE, PENULTIMATE_FEATURES, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.neighbours.search import Neighbours

_NOISE_ROWS = 50  # noise inputs run together


@dataclass(frozen=True)
class Prototypes:
    """Where the classes are, where OOD is taken to be, and the fit rows' gradients."""

    classes: Tensor  # (K, D) means of the classes that occur
    ood: Tensor  # (D,) the OOD prototype
    search: Neighbours  # index of the gradients of fit rows


@plugin
class GROOD(ScoreTap):
    """Distance to the k-th nearest gradient of correctly classified fit rows.

    The gradient is that of the cross-entropy of softmax(−‖h − p‖), over the class means p and one
    OOD prototype, with respect to the OOD prototype; ElAraby et al. 2025. It has a closed form.
    The OOD prototype is the mean feature vector of standard normal noise in the units of the
    network's input: the paper's synthetic samples, without its other sources (OOD validation rows,
    mixed maps). Memory: 12 bytes for each value of the features of the fit rows that are kept.
    """

    name = "grood"
    paper = "arXiv:2312.14427v3"
    works = "Compact classes, far from the noise that stands in for OOD."
    fails = "OOD nearer to a class mean than to the OOD prototype, whose gradient is 0."
    cost = "one forward and a search of the fit rows"
    k: int = hyper(1, "which neighbour", low=1)
    share: float = hyper(1.0, "share of the fit rows kept, evenly spaced", above=0, high=1)
    samples: int = hyper(100, "noise inputs for the OOD prototype", low=1)
    seed: int = hyper(0, "of the noise", low=0)

    def reads(self) -> tuple[str, ...]:
        """Declare features, logits and labels."""
        return (PENULTIMATE_FEATURES, LOGITS, LABELS)

    def settle(self, network: Network) -> Self:
        """Check that the cache keeps the features, and that there can be noise."""
        network.require_layer(PENULTIMATE, self.who)
        if not network.probe.is_floating_point():
            raise ModelError(
                f"{self.who}: inputs must be floats, so that noise can stand in for OOD, got "
                f"{network.probe.dtype}; remove it from scores:"
            )
        return self

    def prepare(self, network: Network, fit: Latents) -> Prototypes:
        """Find the prototypes and the gradients of the fit rows."""
        classes = fit.compute(ClassMeans(PENULTIMATE_FEATURES)).means
        ood = self._noise_features(network).cpu().mean(dim=0)
        kept: list[Tensor] = []
        for chunk in fit.chunks(self.reads()):
            right = chunk[LOGITS].argmax(dim=1) == chunk[LABELS]
            row = torch.arange(chunk.offset, chunk.offset + len(chunk))
            chosen = ((row + 1) * self.share).floor() > (row * self.share).floor()
            vectors = chunk.double(PENULTIMATE_FEATURES)[right & chosen]
            kept.append(prototype_gradient(vectors, classes, ood))
        bank = torch.cat(kept)
        if len(bank) < self.k:
            raise DataError(
                f"{self.who}: k must be ≤ the {len(bank)} correctly classified rows kept of "
                f'"{fit.name}", got {self.k}; lower k, or extract more rows'
            )
        search = Neighbours(bank.to(network.device))
        return Prototypes(classes.to(network.device), ood.to(network.device), search)

    def score(self, network: Network, inputs: Tensor, state: Prototypes) -> Tensor:
        """Measure the distance in the space of gradients: (B,) ≥ 0."""
        with torch.no_grad():
            rows = network.features(PENULTIMATE, inputs)
            gradients = prototype_gradient(rows, state.classes, state.ood)
            return state.search.kth_distance(gradients, self.k)

    def _noise_features(self, network: Network) -> Tensor:
        """Run the model on noise: (samples, D) float64."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.samples, *network.probe.shape[1:], generator=generator)
        with torch.no_grad():
            parts = noise.to(network.probe).split(_NOISE_ROWS)
            return torch.cat([network.features(PENULTIMATE, part) for part in parts])


def prototype_gradient(rows: Tensor, classes: Tensor, ood: Tensor) -> Tensor:
    """Differentiate the prototype loss of rows (B, D) with respect to the OOD prototype (D,).

    With q the share of the OOD prototype in softmax(−distances), that is q·(h − p)/‖h − p‖, (B, D),
    for whichever of the classes (K, D) the row is labelled with; 0 where h is the OOD prototype.
    """
    prototypes = torch.cat([classes, ood.unsqueeze(0)])
    mode = "donot_use_mm_for_euclid_dist"  # the expanded square cancels where it is small
    distances = torch.cdist(rows, prototypes, compute_mode=mode)
    share = torch.softmax(-distances, dim=1)[:, -1:]
    away = distances[:, -1:]
    return torch.where(away > 0, share * (rows - ood) / away, 0.0)
