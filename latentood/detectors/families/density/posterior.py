"""The density that the flows of a posterior network give a row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.latents import Key, Latents
from latentood.latents.key import NETWORK
from latentood.plugins import hyper, plugin


@plugin
class PosteriorDensity(Detector):
    """Density of the latent vector under the flows of a network trained with them, negated.

    ``−log (1/C)·Σ_c p(z|c)``. The paper weighs classes by their numbers of rows where it needs
    α₀; here all weigh alike.
    """

    name = "posterior_density"
    family = "density"
    paper = "arXiv:2006.09239, sec. 3"
    works = "Networks trained with the objective posterior: far inputs have no density at all."
    fails = "Latent spaces of many dimensions, and inputs that the network maps onto ID ones."
    cost = "no fit, O(C) per row"
    of_head = "density"
    head: str = hyper(NETWORK, "head whose flows give the density")

    def needs(self) -> Needs:
        """Declare the log densities."""
        return Needs((Key("density", self.head),))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Negate the log of the mean density: (N,) nats."""
        density = rows.double(Key("density", self.head))
        return math.log(density.shape[1]) - torch.logsumexp(density, dim=1)
