"""Detectors that read the spread of T stochastic passes, and need no fit."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.latents import MC_LOGITS, Latents
from latentood.stats.probabilities import entropy


@dataclass(frozen=True)
class MonteCarloDetector(Detector):
    """A score of the class probabilities of T passes."""

    family = "monte_carlo"
    cost = "no fit, O(T·C) per row, after T stochastic passes"

    def needs(self) -> Needs:
        """Declare the logits of the passes."""
        return Needs(score=(MC_LOGITS,))

    @abstractmethod
    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) float64 → (N,), higher = more OOD."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by the probabilities of their passes."""
        return self.of_passes(torch.softmax(rows.double(MC_LOGITS), dim=-1))


@dataclass(frozen=True)
class Variance(MonteCarloDetector):
    """Variance of a class probability over the passes, averaged over classes: mean_c Var_t p.

    The variance divides by T (all passes are the population), not by T−1: one pass gives 0.
    """

    name = "mcd_variance"
    paper = "arXiv:1511.02680, sec. 3"
    works = "Dropout close to the output, where passes disagree on inputs unlike the training set."
    fails = "Few passes, and OOD on which every pass is confidently wrong in the same way."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, 1/C]."""
        return probabilities.var(dim=1, correction=0).mean(dim=1)


@dataclass(frozen=True)
class PredictiveEntropy(MonteCarloDetector):
    """Entropy of the mean probabilities, in nats: H(mean_t p_t), all uncertainty at once."""

    name = "predictive_entropy"
    paper = "arXiv:1703.02910, sec. 3"
    works = "Any stochastic network: never less informed than the entropy of a single pass."
    fails = "Ambiguous ID inputs score as high as OOD; mutual_information tells them apart."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, log C]."""
        return entropy(probabilities.mean(dim=1))


@dataclass(frozen=True)
class MutualInformation(MonteCarloDetector):
    """What the passes disagree about, in nats: H(mean_t p_t) − mean_t H(p_t) (BALD).

    Houlsby et al. 2011, with dropout passes as in Gal et al. 2017. Jensen's inequality makes it
    ≥ 0; rounding does not, so it is clamped at 0.
    """

    name = "mutual_information"
    paper = "arXiv:1112.5745, eq. 2; arXiv:1703.02910, sec. 3"
    works = "Separating what the model does not know from what is ambiguous in the data."
    fails = "Weak dropout: passes hardly differ, and what is left is rounding. Grows with T."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, log C]."""
        total = entropy(probabilities.mean(dim=1))
        return (total - entropy(probabilities).mean(dim=1)).clamp(min=0.0)
