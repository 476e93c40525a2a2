"""Detectors for evidential models, which predict a Dirichlet distribution: α = evidence + 1.

They read cached logits through the evidence function the model was trained with; with another
one the numbers mean nothing. Evidence is never clipped (training code often clips the exponent
at ±10): it is kept as a logarithm, so no logit is too large.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.latents import LOGITS, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.dirichlet import Dirichlet

Evidence = Literal["relu", "softplus", "exp"]
"""How an evidential model turns logits into evidence."""

_CPU_PAIRS = 1 << 17  # pairs of classes per step: every temporary stays in the cache
_GPU_PAIRS = 1 << 24


def log_evidence(logits: Tensor, function: str) -> Tensor:
    """Log of the evidence for each class: (N, C) → (N, C), −∞ where there is none."""
    match function:
        case "softplus":  # torch's own softplus is the identity from 20 on
            return torch.logaddexp(logits, torch.zeros_like(logits)).log()
        case "exp":
            return logits
    return logits.clamp(min=0.0).log()


@dataclass(frozen=True, eq=False)
class Opinion:
    """Evidence of a model for N inputs."""

    log_evidence: Tensor  # (N, C) float64
    dirichlet: Dirichlet  # of α = evidence + 1

    @property
    def beliefs(self) -> Tensor:
        """Belief masses b = e/S: (N, C); with the vacuity they sum to 1."""
        return (self.log_evidence - self.dirichlet.log_strength.unsqueeze(1)).exp()


def opinion(logits: Tensor, function: str) -> Opinion:
    """Read logits (N, C) float64 through an evidence function."""
    evidence = log_evidence(logits, function)
    return Opinion(evidence, Dirichlet(torch.logaddexp(evidence, torch.zeros_like(evidence))))


@plugin
class EvidentialDetector(Detector):
    """A score of the Dirichlet distribution an evidential model predicts."""

    family = "evidential"
    cost = "no fit, O(C) per row"
    reads = (LOGITS,)
    evidence: Evidence = hyper(
        "relu", "how the model turns logits into evidence; as in its training"
    )

    @abstractmethod
    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) float64, higher = more OOD."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by the opinions their logits stand for."""
        return self.of_opinion(opinion(rows.double(LOGITS), self.evidence))


@plugin
class Vacuity(EvidentialDetector):
    """The belief mass no class has earned: C/S. It is 1 where there is no evidence at all."""

    name = "vacuity"
    paper = "arXiv:1806.01768, eq. 1"
    works = "Models trained with an evidential loss: inputs unlike any class collect no evidence."
    fails = "Plain classifiers, and evidence spread over wrong classes, which counts as known."

    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) in [0, 1]."""
        strength = given.dirichlet.log_strength
        classes = strength.new_tensor(given.log_evidence.shape[1])
        return (classes.log() - strength).exp().clamp(max=1.0)


@plugin
class Dissonance(EvidentialDetector):
    """Conflict: belief in one class that belief in others balances.

    ``Σ_k b_k · Σ_{j≠k} b_j·Bal(b_j,b_k) / Σ_{j≠k} b_j`` with b = e/S and
    ``Bal(b_j,b_k) = 1 − |b_j−b_k|/(b_j+b_k)``, 0 where either has no belief. An input without
    evidence has no conflict: this is not a score of distance, use it beside vacuity.
    """

    name = "dissonance"
    paper = "arXiv:2010.12783, sec. 3; Jøsang et al., FUSION 2018"
    works = "Finding ambiguous inputs: evidence for several classes at once, as near OOD has."
    fails = "Inputs without evidence: no conflict, so far OOD scores lowest; take vacuity for them."
    cost = "no fit, O(C²) per row"

    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) in [0, 1]."""
        beliefs = given.beliefs
        budget = _CPU_PAIRS if beliefs.device.type == "cpu" else _GPU_PAIRS
        step = max(1, budget // beliefs.shape[1] ** 2)
        return torch.cat([_dissonance(part) for part in beliefs.split(step)])


def _dissonance(beliefs: Tensor) -> Tensor:
    """Dissonance of belief masses (n, C) → (n,)."""
    mine, other = beliefs.unsqueeze(2), beliefs.unsqueeze(1)
    total = mine + other
    # 1 − |a−b|/(a+b) = 2·min(a,b)/(a+b), without the cancellation
    balance = 2 * torch.minimum(mine, other) / torch.where(total > 0, total, 1.0)
    diagonal = torch.eye(beliefs.shape[1], dtype=torch.bool, device=beliefs.device)
    weighed = (other * balance.masked_fill(diagonal, 0.0)).sum(dim=2)  # (n, C)
    # Summed without the term itself: the whole sum less one term would lose small beliefs.
    others = other.expand_as(balance).masked_fill(diagonal, 0.0).sum(dim=2)  # (n, C)
    return (beliefs * weighed / torch.where(others > 0, others, 1.0)).sum(dim=1)


@plugin
class DirichletEntropy(EvidentialDetector):
    """Differential entropy of the predicted Dirichlet distribution, in nats.

    ``log B(α) + (S−C)·ψ(S) − Σ(α_k−1)·ψ(α_k)``: largest, −log Γ(C), for the flat distribution
    of an input without evidence, and unbounded below.
    """

    name = "dirichlet_entropy"
    paper = "arXiv:1802.10501, sec. 4"
    works = "As vacuity, but sees how evidence is spread as well as how much there is."
    fails = "Classes with no evidence flatten it however sure the others are; plain classifiers."

    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) at most −log Γ(C)."""
        return given.dirichlet.entropy()


@plugin
class DistributionalMutualInformation(EvidentialDetector):
    """What the Dirichlet distribution leaves open about the class probabilities, in nats.

    ``H(p̂) − E H(p) = −Σ p̂_k·(log p̂_k − ψ(α_k+1) + ψ(S+1))`` with p̂ = α/S: the entropy of the
    expected probabilities less the expected entropy. Malinin and Gales 2018.
    """

    name = "distributional_mutual_information"
    paper = "arXiv:1802.10501, sec. 4"
    works = "Telling what the model does not know from what is ambiguous in the data."
    fails = "Plain classifiers; with evidence above a few hundred it is near 0 for every input."

    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) in [0, log C]."""
        return given.dirichlet.mutual_information()


@plugin
class EvidentialMaxProb(EvidentialDetector):
    """The largest expected probability, negated: −max α/S."""

    name = "evidential_max_prob"
    paper = "arXiv:1806.01768, sec. 3"
    works = "The counterpart of msp: wrong and unknown inputs alike have no clear winner."
    fails = "Many classes: one count of prior each lowers it even where evidence is clear."

    def of_opinion(self, given: Opinion) -> Tensor:
        """Score opinions → (N,) in [−1, −1/C]."""
        return -given.dirichlet.mean.amax(dim=1)


DETECTORS = (
    Vacuity, Dissonance, DirichletEntropy, DistributionalMutualInformation, EvidentialMaxProb,
)  # fmt: skip
