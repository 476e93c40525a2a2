"""Detectors that read the logits alone and need no fit."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State, hyper
from latentood.latents import LOGITS, Latents
from latentood.stats.probabilities import softmax_entropy


@dataclass(frozen=True)
class LogitDetector(Detector):
    """A score of logits; :meth:`of_logits` also serves logits recomputed from shaped features."""

    family = "logits"

    def needs(self) -> Needs:
        """Declare the logits of the rows to score."""
        return Needs(score=(LOGITS,))

    @abstractmethod
    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) float64 → (N,), higher = more OOD."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by their logits."""
        return self.of_logits(rows.double(LOGITS))


@dataclass(frozen=True)
class MaxSoftmax(LogitDetector):
    """The largest softmax probability, negated: −max softmax(z/T).

    Hendrycks and Gimpel 2017; the temperature is an option of later work (T = 1 is the paper).
    """

    name = "msp"
    paper = "arXiv:1610.02136, sec. 2"
    works = "A calibrated classifier whose OOD inputs lie near its decision boundaries."
    fails = (
        "Overconfident networks give far OOD a probability of 1, and near 1 it barely ranks at all."
    )
    cost = "no fit, O(C) per row"
    temperature: float = hyper(1.0, "T that divides the logits before the softmax", above=0)

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,) in [−1, −1/C]."""
        return -torch.softmax(logits / self.temperature, dim=1).amax(dim=1)


@dataclass(frozen=True)
class MaxLogit(LogitDetector):
    """The largest logit, negated: −max z (Hendrycks et al. 2022)."""

    name = "max_logit"
    paper = "arXiv:1911.11132, sec. 4"
    works = "Many or overlapping classes, where probability mass is split between similar ones."
    fails = (
        "Networks whose logits are not comparable between inputs, such as bounded cosine logits."
    )
    cost = "no fit, O(C) per row"

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,)."""
        return -logits.amax(dim=1)


@dataclass(frozen=True)
class Energy(LogitDetector):
    """The free energy of the logits: −T·logsumexp(z/T) (Liu et al. 2020)."""

    name = "energy"
    paper = "arXiv:2010.03759, eq. 4"
    works = "The default among logit scores: does not saturate where the softmax does."
    fails = "OOD inputs with large activations, whose logits are as large as those of ID."
    cost = "no fit, O(C) per row"
    temperature: float = hyper(1.0, "T of the energy; 1 in the paper", above=0)

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,)."""
        return -self.temperature * torch.logsumexp(logits / self.temperature, dim=1)


@dataclass(frozen=True)
class Entropy(LogitDetector):
    """Shannon entropy of the softmax, in nats: H(p) (Chan et al. 2021, as a baseline)."""

    name = "entropy"
    paper = "arXiv:2012.06575, sec. 3"
    works = "OOD inputs that spread probability over many classes, not just two."
    fails = "Overconfident networks, as for msp: a one-hot softmax has no entropy left."
    cost = "no fit, O(C) per row"

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,) in [0, log C]."""
        return softmax_entropy(logits)
