"""The objective of evidential networks."""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from latentood.models.heads import EvidentialHead
from latentood.models.heads.dirichlet import dirichlet_of
from latentood.models.heads.evidential import Reconcile
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.dirichlet import Dirichlet, kl_divergence
from latentood.stats.distributions.evidence import Evidence
from latentood.training.objectives.annealing import Points, check_points, interpolate, rise
from latentood.training.objectives.base import Given, Moment, Objective

log = logging.getLogger(__name__)

Risk = Literal["ml", "digamma", "squared"]
"""Which expected loss of a class under the predicted Dirichlet distribution is minimised."""


@plugin
class Evidential(Objective):
    """Evidential deep learning (EDL): the expected loss under the predicted Dirichlet, plus λ·KL.

    Sensoy et al. 2018, arXiv:1806.01768, with α = e + 1 and S = Σα of :class:`EvidentialHead`:

    - ``ml``: type-II maximum likelihood, log S − log α_y (eq. 3);
    - ``digamma``: the Bayes risk of the cross-entropy, ψ(S) − ψ(α_y) (eq. 4);
    - ``squared``: the Bayes risk of the squared error, Σ (y_k − p̂_k)² + p̂_k·(1−p̂_k)/(S+1)
      with p̂ = α/S (eq. 5).

    The regulariser is KL(Dir(α̃) ‖ Dir(1, …, 1)) with α̃ = y + (1−y)⊙α: evidence for the label is
    left out, that for other classes is taken back. Its weight λ is ``kl`` times min(1, t/10) after
    t epochs, as in the paper, or by ``annealing`` a function of the share of the run.

    Relu evidence dies: an input whose logits are all ≤ 0 has α = 1, a constant loss, and a
    gradient of 0, so nothing is learnt from it; a network may come to give only such logits. The
    first batch in which all inputs are like that is logged as a warning. ``leak`` gives logits
    below 0 the gradient of α that a slope of that size has, without changing the loss; softplus
    and exp need no remedy.

    Departures: the mean over the batch instead of the sum; gamma functions in float64 of log α;
    t counts fractions of epochs; ``leak``, ``annealing`` and ``reconcile`` are not in the paper.
    """

    name = "evidential"
    paper = "arXiv:1806.01768, eq. 3 to 5"
    evidence: Evidence = hyper("relu", "how logits become evidence")
    risk: Risk = hyper("squared", "the expected loss: eq. 3, 4 or 5")
    kl: float = hyper(1.0, "final weight of the KL divergence", low=0)
    annealing_epochs: float = hyper(10.0, "epochs in which that weight rises from 0", low=0)
    annealing: Points = hyper((), "(share of the run, factor of kl) instead of epochs")
    reconcile: Reconcile = hyper("none", "min: ERNN; learnt: R2ENN")
    leak: float = hyper(0.0, "slope below 0 that gradients of relu evidence see", low=0)

    def __post_init__(self) -> None:
        """Check the schedule."""
        check_points(self.who, "annealing", self.annealing)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> EvidentialHead:
        """Make the head; counts are not read.

        Raises:
            ConfigError: H is not C.
        """
        return EvidentialHead(width, classes, evidence=self.evidence, reconcile=self.reconcile)

    def coefficients(self, moment: Moment) -> dict[str, float]:
        """Give the weight λ of the KL divergence as ``kl``."""
        if self.annealing:
            return {"kl": self.kl * interpolate(moment, self.annealing)}
        return {"kl": self.kl * rise(moment, self.annealing_epochs)}

    def of(self, given: Given) -> Tensor:
        """Give the mean of risk + λ·KL: float64.

        Raises:
            ModelError: The predictions are not those of a head with a Dirichlet distribution.
        """
        predicted, labels = dirichlet_of(given.prediction, self.who), given.labels
        if self.evidence == "relu":
            predicted = self._awake(predicted, given.prediction.logits)
        risk = _RISKS[self.risk](predicted, labels)
        weight = self.coefficients(given.moment)["kl"]
        return (risk + weight * misleading(predicted, labels)).mean() if weight else risk.mean()

    def _awake(self, predicted: Dirichlet, logits: Tensor) -> Dirichlet:
        """Warn where no input has evidence, and give logits below 0 their gradient."""
        if not self.leak:
            if not bool((predicted.log_alpha > 0).any()):
                _warn(self.who)
            return predicted
        below = self.leak * logits.double().clamp(max=0.0)
        return Dirichlet(predicted.log_alpha + (below - below.detach()))


def misleading(predicted: Dirichlet, labels: Tensor) -> Tensor:
    """KL(Dir(α̃) ‖ Dir(1, …, 1)) of the evidence for other classes than the label: (N,) nats."""
    log_alpha = predicted.log_alpha
    label = F.one_hot(labels, log_alpha.shape[1]).bool()
    return kl_divergence(
        Dirichlet(log_alpha.masked_fill(label, 0.0)), Dirichlet(torch.zeros_like(log_alpha))
    )


def _likelihood(predicted: Dirichlet, labels: Tensor) -> Tensor:
    return F.nll_loss(
        predicted.log_alpha - predicted.log_strength.unsqueeze(1), labels, reduction="none"
    )


def _squared(predicted: Dirichlet, labels: Tensor) -> Tensor:
    mean = predicted.mean
    errors = (F.one_hot(labels, mean.shape[1]) - mean).square()
    variances = mean * (1 - mean) * torch.sigmoid(-predicted.log_strength).unsqueeze(1)  # 1/(S+1)
    return (errors + variances).sum(dim=1)


_RISKS = {
    "ml": _likelihood,
    "digamma": Dirichlet.expected_cross_entropy,
    "squared": _squared,
}


@cache
def _warn(who: str) -> None:
    """Say once that the network does not learn."""
    log.warning(
        "%s: all logits of a batch are ≤ 0, so that relu evidence and its gradient are 0; if the "
        "loss stays as it is, set evidence: softplus or exp, or leak: 0.01",
        who,
    )
