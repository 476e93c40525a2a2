"""Objectives of networks that end in a softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentood.errors import ConfigError
from latentood.plugins import hyper, plugin
from latentood.training.objectives.base import Given, Objective

_NORM_FLOOR = 1e-7


@plugin
class CrossEntropy(Objective):
    """The mean of −log p_y, or of −Σ_k t_k·log p_k with smoothed labels.

    Smoothed labels are t = (1−s)·onehot(y) + s/C (Szegedy et al. 2016, arXiv:1512.00567, sec. 7).
    """

    name = "cross_entropy"
    paper = "textbook"
    label_smoothing: float = hyper(
        0.0, "share s of every label that all classes get alike", low=0, below=1
    )

    def of(self, given: Given) -> Tensor:
        """Give the mean cross-entropy of a batch, in nats."""
        return F.cross_entropy(
            given.prediction.logits, given.labels, label_smoothing=self.label_smoothing
        )


@plugin
class LogitNorm(Objective):
    """The cross-entropy of logits that are scaled to the same length: z/(τ·‖z‖).

    Wei et al. 2022, arXiv:2205.09310, eq. 4: the length of the logits, which grows as long as a
    network is trained and makes it overconfident, no longer lowers the loss. Predictions keep the
    logits as they are, which the paper scores. Departure: ‖z‖ + 1e-7, as in the authors' code, so
    that logits of zero have a loss.
    """

    name = "logit_norm"
    paper = "arXiv:2205.09310, eq. 4"
    temperature: float = hyper(0.04, "τ, that of the paper for CIFAR-10", above=0)

    def of(self, given: Given) -> Tensor:
        """Give the mean loss of a batch, in nats: float64, at least log(1 + (C−1)·exp(−2/τ))."""
        logits = given.prediction.logits.double()
        norm = torch.linalg.vector_norm(logits, dim=1, keepdim=True) + _NORM_FLOOR
        return F.cross_entropy(logits / (norm * self.temperature), given.labels)


@plugin
class OutlierExposure(Objective):
    """Cross-entropy, plus λ times that of the uniform distribution on OOD inputs.

    Hendrycks et al. 2019, arXiv:1812.04606, sec. 4.3: −(1/C)·Σ_k log p_k for OOD inputs, which a
    uniform softmax minimises at log C. The paper fine-tunes a trained network or trains anew;
    both are this loss.
    """

    name = "outlier_exposure"
    paper = "arXiv:1812.04606, sec. 4.3"
    reads_outliers = True
    outlier_weight: float = hyper(0.5, "weight λ of the loss on OOD inputs", low=0)

    def of(self, given: Given) -> Tensor:
        """Give the mean loss of a batch plus λ times that of its OOD inputs, in nats: float64.

        Raises:
            ConfigError: There are no predictions for OOD inputs.
        """
        if given.outliers is None:
            raise ConfigError(
                f"{self.who}: needs predictions for OOD inputs, got none; name a split with "
                "training.splits.outliers, or give loss(…, outliers=network(inputs))"
            )
        known = F.cross_entropy(given.prediction.logits.double(), given.labels)
        uniform = -torch.log_softmax(given.outliers.logits.double(), dim=1).mean()
        return known + self.outlier_weight * uniform
