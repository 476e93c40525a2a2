"""Mahalanobis distance of an input moved towards its nearest class."""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from latentood.errors import DataError
from latentood.extract.scores.classes import class_sums
from latentood.extract.scores.network import Network
from latentood.extract.scores.perturbation import Perturbing, signs
from latentood.latents import LABELS, PENULTIMATE, Latents, features
from latentood.stats.linalg import Covariance, nearest_squared
from latentood.stats.moments import MomentSums


@dataclass(frozen=True)
class PerturbedMahalanobis(Perturbing):
    """min_c (f(x̂)−μ_c)ᵀΣ⁻¹(f(x̂)−μ_c) with x̂ = x − ε·sign(∇ₓ of the same at x).

    Lee et al. 2018, for one layer: class means by true labels, one tied covariance. With ε = 0 it
    is the detector ``mahalanobis``, ridge included.
    """

    name = "mahalanobis_perturbed"
    paper = "arXiv:1807.03888, eq. 2 and the input pre-processing of sec. 2.2"
    layer: str = Field(PENULTIMATE, description="layer whose features are measured")
    ridge: float = Field(
        1e-6, ge=0, allow_inf_nan=False, description="share of trace(Σ)/D added to the diagonal"
    )

    def reads(self) -> tuple[str, ...]:
        """Declare features and labels."""
        return (features(self.layer), LABELS)

    def settle(self, network: Network) -> Self:
        """Check that the cache keeps the layer."""
        network.kept(self.layer, self.who)
        return super().settle(network)

    def prepare(self, network: Network, fit: Latents) -> dict[str, Tensor]:
        """Compute the overall mean (D,), the whitener (D, D) and the whitened means (K, D)."""
        key = features(self.layer)
        mean, means, tied = class_moments(fit, key)
        if tied.rank == 0 or (tied.rank < len(mean) and self.ridge == 0):
            raise DataError(
                f"{self.who}: {key} must vary in all {len(mean)} dimensions within the classes, "
                f'got rank {tied.rank} from {len(fit)} rows of "{fit.name}"; extract more rows, or '
                "set ridge: 1.0e-6"
            )
        whitener = tied.whitener(self.ridge)
        state = {"mean": mean, "whitener": whitener, "means": (means - mean) @ whitener}
        return {name: tensor.to(network.device) for name, tensor in state.items()}

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Step towards the nearest class, then measure again: (B,) ≥ 0."""
        tap = network.kept(self.layer, self.who)

        def distance(x: Tensor) -> Tensor:
            whitened = (network.features(tap, x)[0] - state["mean"]) @ state["whitener"]
            return nearest_squared(whitened, state["means"])

        moved = inputs
        if self.epsilon > 0:
            moved = self.moved(inputs, -signs(network.gradient(self.who, distance, inputs)))
        with torch.no_grad():
            return distance(moved)


def class_moments(fit: Latents, key: str) -> tuple[Tensor, Tensor, Covariance]:
    """Give the mean of all rows (D,), the class means (K, D) and the tied covariance."""
    rows = MomentSums()
    classes = class_sums(fit, key, each=rows.add)
    moments, means = rows.result(), classes.means()
    return moments.mean, means, moments.tied(classes.counts, means)
