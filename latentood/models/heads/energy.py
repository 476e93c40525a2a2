"""The head whose uncertainty is an energy with a learnt weight for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentood.models.heads.base import Prediction, UncertaintyHead
from latentood.models.heads.checks import check_positive
from latentood.models.heads.queue import FeatureQueue


class WeightedEnergyHead(UncertaintyHead):
    """The output are the logits, and the uncertainty is −log Σ_k w_k·exp(z_k).

    Du et al. 2022, arXiv:2202.01197 (VOS), sec. 3.2. The log w_k are learnt and begin at 0, where
    the score is the energy of Liu et al. 2020. φ, of which the paper makes an MLP and the first
    version of its code a logistic regression, is an increasing affine function here.

    Departures: weights are exp of what is learnt, not its positive part, so that none is 0 for
    good; the slope of φ is above 0, so that the order of inputs by φ(E) is that by E.

    Args:
        width: C; the output are the logits.
        classes: C.
        queue: Newest rows of each class that training keeps.

    Raises:
        ConfigError: The queue has no room.
    """

    name = "weighted_energy"
    gives = ("weighted_logits",)
    only_for_training = frozenset({f"queue.{FeatureQueue.STATE}"})

    def __init__(self, width: int, classes: int, *, queue: int = 1000) -> None:
        check_positive(self.name, queue=queue)
        super().__init__(width, classes, queue=queue)
        self.log_weights = nn.Parameter(torch.zeros(width))
        self.log_slope = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))
        self.queue = FeatureQueue(classes, queue)

    def forward(self, output: Tensor) -> Prediction:
        """Take the output as logits, and give z + log w (B, C) float64 beside them."""
        return Prediction(output, weighted_logits=self.weighted(output))

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give the weighted energy −log Σ_k w_k·exp(z_k): (B,) float64, any number."""
        return self.energy(prediction.logits)

    def energy(self, logits: Tensor) -> Tensor:
        """Give the weighted energy of logits: (B, C) → (B,) float64."""
        return -torch.logsumexp(self.weighted(logits), dim=1)

    def weighted(self, logits: Tensor) -> Tensor:
        """Add the log weights to logits: (B, C) → (B, C) float64."""
        return logits.double() + self.log_weights.double()

    def outlier_logit(self, energy: Tensor) -> Tensor:
        """Give φ(E), the log odds of an outlier: (B,) → (B,)."""
        return self.log_slope.double().exp() * energy + self.offset.double()
