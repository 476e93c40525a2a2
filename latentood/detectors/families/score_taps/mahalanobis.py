"""Mahalanobis distance of an input moved towards its nearest class."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, Ridge, State
from latentood.detectors.families.gaussian.distances import Mahalanobis
from latentood.detectors.families.score_taps.base import Network
from latentood.detectors.families.score_taps.perturbation import Perturbing, signs
from latentood.latents import PENULTIMATE, Latents
from latentood.plugins import hyper, plugin


@plugin
class _Distance(Mahalanobis):
    """The distance of the moved inputs, whose messages begin with the tap."""

    name = "score tap mahalanobis_perturbed"


@plugin
class PerturbedMahalanobis(Perturbing):
    """min_c (f(x̂)−μ_c)ᵀΣ⁻¹(f(x̂)−μ_c) with x̂ = x − ε·sign(∇ₓ of the same at x).

    Lee et al. 2018, for one layer: class means by true labels, one tied covariance. With ε = 0 it
    is the detector ``mahalanobis``, ridge included.
    """

    name = "mahalanobis_perturbed"
    paper = "arXiv:1807.03888, eq. 2 and the input pre-processing of sec. 2.2"
    works = "Where mahalanobis works: ID inputs come closer by the step than OOD inputs do."
    fails = "Near OOD, as mahalanobis does, and steps so long that they leave the classes."
    cost = "one forward with gradients and one without"
    layer: str = hyper(PENULTIMATE, "layer whose features are measured")
    ridge: Ridge = RIDGE

    def reads(self) -> tuple[str, ...]:
        """Declare features and labels."""
        return self.distance.needs().fit

    @property
    def distance(self) -> Mahalanobis:
        """The distance that is taken of the moved inputs."""
        return _Distance(layer=self.layer, ridge=self.ridge)

    def settle(self, network: Network) -> Self:
        """Check that the cache keeps the layer."""
        network.require_layer(self.layer, self.who)
        return super().settle(network)

    def prepare(self, network: Network, fit: Latents) -> State:
        """Fit the distance."""
        state = self.distance.fit(fit)
        return {name: tensor.to(network.device) for name, tensor in state.items()}

    def score(self, network: Network, inputs: Tensor, state: State) -> Tensor:
        """Step towards the nearest class, then measure again: (B,) ≥ 0."""

        def measured(x: Tensor) -> Tensor:
            return self.distance.of_features(state, network.features(self.layer, x))

        moved = inputs
        if self.epsilon > 0:
            moved = self.moved(inputs, -signs(network.gradient(self.who, measured, inputs)))
        with torch.no_grad():
            return measured(moved)
