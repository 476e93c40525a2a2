"""ODIN and i-ODIN: the softmax at a high temperature, of an input moved towards its class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.families.logits.scores import MaxSoftmax
from latentood.detectors.families.score_taps.base import Network
from latentood.detectors.families.score_taps.perturbation import Perturbing, mask_of_largest, signs
from latentood.plugins import hyper, plugin


@plugin
class ODIN(Perturbing):
    """−max softmax(f(x̃)/T) with x̃ = x − ε·sign(−∇ₓ log max softmax(f(x)/T)).

    Liang et al. 2018. A value with gradient 0 stays (the authors' code moves it by +ε), and ε is
    in the units of the network's input (theirs divides the step by ``std``).
    """

    name = "odin"
    paper = "arXiv:1706.02690, eq. 1–2"
    works = "Networks whose softmax rises faster around ID than around OOD inputs."
    fails = "Steps that suit another data set: ε is in the units of the network's input."
    cost = "one forward with gradients and one without"
    temperature: float = hyper(1000.0, "T that divides the logits", above=0)

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Step towards the predicted class, then score: (B,) in [−1, −1/C]."""
        moved = inputs
        if self.epsilon > 0:
            gradient = network.gradient(self.who, lambda x: self._log_max(network, x), inputs)
            moved = self.moved(inputs, self.direction(gradient))
        with torch.no_grad():
            return MaxSoftmax(temperature=self.temperature).of_logits(network.logits(moved))

    def direction(self, gradient: Tensor) -> Tensor:
        """Choose where each value goes: (B, …) → (B, …) of −1, 0 and 1."""
        return signs(gradient)

    def _log_max(self, network: Network, inputs: Tensor) -> Tensor:
        return torch.log_softmax(network.logits(inputs) / self.temperature, dim=1).amax(dim=1)


@plugin
class IODIN(ODIN):
    """ODIN that moves the most important value of an input alone: the largest |∇ₓ|.

    i-ODIN, which its author added to OpenOOD with arXiv:2411.10794 as its reference; the paper
    itself is about training. The definition is that code's: one value, of one channel; ``values``
    moves more of them.
    """

    name = "iodin"
    paper = "arXiv:2411.10794, by its author's code in OpenOOD v1.5"
    works = "Near OOD that a step in every value would push towards a class as well."
    fails = "Large inputs, where one value changes nothing: it is odin_eps0 then."
    values: int = hyper(1, "how many values are moved", low=1)

    def direction(self, gradient: Tensor) -> Tensor:
        """Move the values with the largest gradients: (B, …) → (B, …) of −1, 0 and 1."""
        count = min(self.values, gradient[0].numel())
        return signs(gradient) * mask_of_largest(gradient.abs(), count)
