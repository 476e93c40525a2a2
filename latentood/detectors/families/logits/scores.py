"""Detectors that read the logits alone and need no fit."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.errors import DetectorError
from latentood.latents import LOGITS, Key, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.probabilities import log_complement, softmax_entropy


@plugin
class LogitDetector(Detector):
    """A score of logits; :meth:`of_logits` also serves logits recomputed from shaped features."""

    family = "logits"
    cost = "no fit, O(C) per row"
    reads = (LOGITS,)

    @abstractmethod
    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) float64 → (N,), higher = more OOD."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by their logits."""
        return self.of_logits(rows.double(LOGITS))


@plugin
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
    temperature: float = hyper(
        1.0,
        "T that divides the logits before the softmax",
        above=0,
        tries=(1.0, 2.0, 5.0, 10.0, 100.0),
    )

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,) in [−1, −1/C]."""
        return -torch.softmax(logits / self.temperature, dim=1).amax(dim=1)


@plugin
class MaxLogit(LogitDetector):
    """The largest logit, negated: −max z (Hendrycks et al. 2022)."""

    name = "max_logit"
    paper = "arXiv:1911.11132, sec. 4"
    works = "Many or overlapping classes, where probability mass is split between similar ones."
    fails = (
        "Networks whose logits are not comparable between inputs, such as bounded cosine logits."
    )

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,)."""
        return -logits.amax(dim=1)


@plugin
class Energy(LogitDetector):
    """The free energy of the logits: −T·logsumexp(z/T) (Liu et al. 2020)."""

    name = "energy"
    paper = "arXiv:2010.03759, eq. 4"
    works = "The default among logit scores: does not saturate where the softmax does."
    fails = "OOD inputs with large activations, whose logits are as large as those of ID."
    temperature: float = hyper(
        1.0, "T of the energy; 1 in the paper", above=0, tries=(0.5, 1.0, 2.0, 5.0)
    )

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,)."""
        return -self.temperature * torch.logsumexp(logits / self.temperature, dim=1)


@plugin
class Entropy(LogitDetector):
    """Shannon entropy of the softmax, in nats: H(p) (Chan et al. 2021, as a baseline)."""

    name = "entropy"
    paper = "arXiv:2012.06575, sec. 3"
    works = "OOD inputs that spread probability over many classes, not just two."
    fails = "Overconfident networks, as for msp: a one-hot softmax has no entropy left."

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,) in [0, log C]."""
        return softmax_entropy(logits)


@plugin
class GEN(LogitDetector):
    """Generalised entropy of the most probable classes: Σ_{top-M p} p^γ·(1−p)^γ.

    Liu et al. 2023; the sum, as in the paper (pytorch-ood gives the mean over M of probabilities
    clamped to [1e-7, 1−1e-7]). 1−p is summed from the other classes: with γ = 0.1 a difference
    would still show where 1−p rounds to 0. M is at most the number of classes.
    """

    name = "gen"
    paper = "CVPR 2023, Liu et al., GEN, sec. 3"
    works = "Many classes: small probabilities count, the long tail of near-zero ones does not."
    fails = "Few classes, where it ranks as entropy does, and logits far out of calibration."
    cost = "no fit, O(C·log M) per row"
    gamma: float = hyper(
        0.1,
        "γ; the smaller, the more small probabilities count",
        above=0,
        tries=(0.01, 0.05, 0.1, 0.3),
    )
    top: int = hyper(100, "M, the number of most probable classes that count", low=1)

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,) ≥ 0."""
        log_p = torch.log_softmax(logits, dim=1)
        if self.top < log_p.shape[1]:
            largest, chosen = log_p.topk(self.top, dim=1)
            rest = log_complement(log_p).gather(1, chosen)
            return (self.gamma * (largest + rest)).exp().sum(dim=1)
        return (self.gamma * (log_p + log_complement(log_p))).exp().sum(dim=1)


@plugin
class WeightedEnergy(LogitDetector):
    """Energy with a learned weight for every class: −logsumexp(z + log relu(w)).

    Du et al. 2022 (VOS) learn w in training. A network that ``latentood train`` trained so has a
    head with them; those of another one can be given as ``weights``. With neither, all weights are
    1 and the score is that of energy.
    """

    name = "weighted_energy"
    paper = "arXiv:2202.01197, sec. 3.2"
    works = "Models trained with VOS, whose weights make up for frequent and rare classes."
    fails = "Other models: without learned weights it is energy under another name."
    of_head = "weighted_logits"
    instead_of_head = frozenset({"weights"})
    weights: tuple[float, ...] = hyper(
        (), "weight of each class of a network without a head; empty = 1 for all, as in energy"
    )
    head: str = hyper("", "head that learnt the weights; without one the logits are read")

    def __post_init__(self) -> None:
        """Check that some class has a weight."""
        if self.weights and max(self.weights) <= 0:
            raise DetectorError(
                f"{self.name}: weights must be > 0 for some class, got none above "
                f"{max(self.weights)}; a class of weight ≤ 0 does not count"
            )

    def needs(self) -> Needs:
        """Declare the weighted logits of the head, or the logits."""
        return Needs((Key("weighted_logits", self.head) if self.head else LOGITS,))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by logits that a head has weighted, or that are weighted here."""
        if self.head:
            return -torch.logsumexp(rows.double(Key("weighted_logits", self.head)), dim=1)
        return super().score(state, rows)

    def of_logits(self, logits: Tensor) -> Tensor:
        """Score logits (N, C) → (N,).

        Raises:
            DetectorError: There are not as many weights as classes.
        """
        if not self.weights:
            return -torch.logsumexp(logits, dim=1)
        if len(self.weights) != logits.shape[1]:
            raise DetectorError(
                f"{self.name}: weights must be as many as the {logits.shape[1]} classes, got "
                f"{len(self.weights)}; give one for each class, in the order of the logits"
            )
        return -torch.logsumexp(logits + logits.new_tensor(self.weights).relu().log(), dim=1)


@plugin
class OdinEps0(MaxSoftmax):
    """ODIN without its input perturbation: −max softmax(z/T) with T = 1000.

    Liang et al. 2018 with ε = 0: the part that needs no gradients, so no second read.
    """

    name = "odin_eps0"
    paper = "arXiv:1706.02690, sec. 3"
    works = "Where max_logit works: at T = 1000 it ranks by the top logit less the mean logit."
    fails = "Reported ODIN gains that come from the perturbation of the input are not in it."
    temperature: float = hyper(
        1000.0,
        "T that divides the logits before the softmax",
        above=0,
        tries=(1.0, 10.0, 100.0, 1000.0),
    )


@plugin
class MCM(MaxSoftmax):
    """Maximum concept matching: −max softmax(s/τ) of cosine similarities to class prompts.

    Ming et al. 2022. The logits must be cosines between image and text features, without CLIP's
    logit scale; the formula is that of msp.
    """

    name = "mcm"
    paper = "arXiv:2211.13445, sec. 3"
    works = "Zero-shot classifiers of the CLIP kind, whose logits are cosines in [−1, 1]."
    fails = "Logits that CLIP's scale of 100 has multiplied: set temperature to 100 for τ = 1."
    temperature: float = hyper(
        1.0, "τ that divides the cosines before the softmax", above=0, tries=(0.01, 0.1, 1.0)
    )
