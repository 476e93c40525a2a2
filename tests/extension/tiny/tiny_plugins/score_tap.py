"""A score tap."""

from typing import Any

import torch
from torch import Tensor

import latentood as lo


@lo.plugin
class GradientLength(lo.ScoreTap):
    """Length of the gradient of the energy with respect to the input."""

    name = "gradient_length"
    paper = "textbook"
    works = "Sharp minima around ID inputs."
    fails = "Networks whose gradients vanish far from the data."
    cost = "one forward with gradients"
    temperature: float = lo.hyper(1.0, "T that divides the logits", above=0)

    def score(self, network: lo.Network, inputs: Tensor, state: Any) -> Tensor:
        """Measure the gradient: (B,) ≥ 0."""

        def energy(x: Tensor) -> Tensor:
            return torch.logsumexp(network.logits(x) / self.temperature, dim=1)

        return network.gradient(self.who, energy, inputs).double().flatten(1).norm(dim=1)
