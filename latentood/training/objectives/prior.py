"""The objective of prior networks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latentood.errors import ConfigError
from latentood.models.heads import Prediction, PriorHead
from latentood.models.heads.dirichlet import dirichlet_of
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.dirichlet import Dirichlet, kl_divergence
from latentood.training.objectives.base import Given, Objective

_LEAST, _MOST = -10.0, 20.0  # log α; the divergence grows as 1/α on one side, as α on the other


@plugin
class PriorNetwork(Objective):
    """Prior networks: the KL divergence of the predicted Dirichlet and a target one, ID and OOD.

    With Dir(α) of :class:`PriorHead`, α = exp(z), the loss is the mean over ID inputs plus γ times
    the mean over OOD inputs of

    - ``reverse``: KL(Dir(α) ‖ Dir(α̂)), Malinin and Gales 2019, arXiv:1905.13472, sec. 3;
    - ``forward``: KL(Dir(α̂) ‖ Dir(α)), Malinin and Gales 2018, arXiv:1802.10501, sec. 3. Where
      inputs of several classes overlap, it asks for a distribution of several modes, which no
      Dirichlet is, and the precision falls: reverse is the better choice.

    Targets α̂: for OOD all 1, the flat distribution. For ID β + 1 for the label and 1 for other
    classes, as in 2019, or, with a smoothing ε > 0, as in 2018 the mean 1 − (C−1)·ε for the label
    and ε for other classes, times the precision; that is β + C in both. The two are equal for
    ε = 1/(β+C).

    Defaults: β is that of 2019. γ is 10 for reverse, as in Malinin's thesis (sec. 4.2.3, artificial
    data); take 1 for forward, as there and in 2018.

    Departures: the loss of a log α outside [−10, 20] is that of the nearer end, with the gradient
    there: the divergence itself soon fits no float. No cross-entropy is added.
    """

    name = "prior"
    paper = "arXiv:1905.13472, sec. 3; arXiv:1802.10501, sec. 3"
    reads_outliers = True
    direction: Literal["reverse", "forward"] = hyper("reverse", "of the KL divergence")
    beta: float = hyper(100.0, "β, concentration of the label beyond 1", above=0, high=1e6)
    smoothing: float = hyper(0.0, "ε, mean of each other class; 0: 1/(β+C)", low=0, below=0.5)
    gamma: float = hyper(10.0, "γ, weight of the OOD inputs", low=0)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> PriorHead:
        """Make the head; counts are not read.

        Raises:
            ConfigError: H is not C, or the smoothing leaves the label no more than other classes.
        """
        if self.smoothing * classes >= 1:
            raise ConfigError(
                f"{self.who}: smoothing must be < 1/C, {1 / classes:g} for {classes} classes, got "
                f"{self.smoothing:g}; {self.remedy}"
            )
        return PriorHead(width, classes)

    def of(self, given: Given) -> Tensor:
        """Give the mean over ID inputs plus γ times the mean over OOD inputs: float64, nats.

        Raises:
            ConfigError: There are no OOD inputs.
            ModelError: The predictions are not those of a head with a Dirichlet distribution.
        """
        if given.outliers is None:
            raise ConfigError(
                f"{self.who}: the loss needs predictions for OOD inputs, got none; name rows under "
                "splits: outliers: in training:, or pass outliers="
            )
        known, other = self._held(given.prediction), self._held(given.outliers)
        divergence = self._divergence(known, self._target(known, given.labels))
        flat = Dirichlet(torch.zeros_like(other.log_alpha))
        return divergence + self.gamma * self._divergence(other, flat)

    def _divergence(self, predicted: Dirichlet, target: Dirichlet) -> Tensor:
        pair = (predicted, target) if self.direction == "reverse" else (target, predicted)
        return kl_divergence(*pair).mean()

    def _target(self, predicted: Dirichlet, labels: Tensor) -> Dirichlet:
        """Give the target distributions for labels (N,)."""
        classes = predicted.log_alpha.shape[1]
        precision = self.beta + classes
        rest = self.smoothing or 1 / precision
        log_alpha = torch.full_like(predicted.log_alpha, math.log(rest * precision))
        label = math.log((1 - (classes - 1) * rest) * precision)
        return Dirichlet(log_alpha.scatter(1, labels.unsqueeze(1), label))

    def _held(self, prediction: Prediction) -> Dirichlet:
        """Hold log α to where the divergence fits a float; gradients pass as they are there."""
        log_alpha = dirichlet_of(prediction, self.who).log_alpha
        held = log_alpha.detach().clamp(_LEAST, _MOST)
        return Dirichlet(log_alpha + (held - log_alpha.detach()))
