"""One plug-in of each kind, written with the public names of latentood alone."""

from typing import Any

import torch
from torch import Tensor

import latentood as lo


@lo.plugin
class Centroid(lo.FeatureDetector):
    """Distance to the mean of the fit rows, in units of spread: ‖(h−μ)/σ‖."""

    name = "centroid"
    family = "tiny"
    paper = "textbook"
    works = "Far OOD, and more dimensions than fit rows."
    fails = "Features that are correlated, or that form several clusters."
    cost = "O(N·D²) fit, shared with mahalanobis; O(D) per row"
    order: float = lo.hyper(2.0, "p of the norm", above=0)
    floor: float = lo.hyper(1e-12, "smallest σ, for constant columns", above=0)

    def needs(self) -> lo.Needs:
        """Declare features."""
        return lo.Needs(score=(self.key,), fit=(self.key,))

    def statistics(self) -> tuple[lo.Statistic[Any], ...]:
        """Ask for mean and scatter."""
        return (lo.Moments(self.key),)

    def fit(self, train: lo.Latents, val: lo.Latents | None = None) -> lo.State:
        """Keep mean (D,) and spread (D,)."""
        moments = train.compute(lo.Moments(self.key))
        spread = moments.covariance.matrix.diagonal().sqrt()
        return {"mean": moments.mean, "spread": spread.clamp(min=self.floor)}

    def score(self, state: lo.State, rows: lo.Latents) -> Tensor:
        """Measure the distance: (N,) ≥ 0."""
        scaled = (rows.double(self.key) - state["mean"]) / state["spread"]
        return scaled.norm(p=self.order, dim=1)


@lo.plugin
class Quantile(lo.Reduction):
    """Quantile over positions of maps (C, …)."""

    name = "quantile"
    level: float = lo.hyper(0.9, "which quantile", low=0, high=1)

    def apply(self, x: Tensor) -> Tensor:
        """Take the quantile of every channel."""
        return x.flatten(2).float().quantile(self.level, dim=2).to(x.dtype)

    def shape(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """Give the number of channels."""
        if len(row) < 3:
            raise lo.errors.ModelError(f"reduction quantile: needs maps (C, …), got {row}")
        return row[:1]


@lo.plugin
class GradientLength(lo.ScoreTap):
    """Length of the gradient of the largest logit with respect to the input, negated."""

    name = "gradient_length"
    paper = "textbook"
    works = "Networks that react to what they know."
    fails = "Bright or noisy inputs."
    cost = "one forward with gradients"
    scale: float = lo.hyper(1.0, "factor of the length", above=0)

    def settle(self, network: lo.Network) -> "GradientLength":
        """Check that the model has gradients."""
        self.score(network, network.probe, None)
        return self

    def score(self, network: lo.Network, inputs: Tensor, state: Any) -> Tensor:
        """Differentiate: (B,) ≤ 0."""
        gradient = network.gradient(self.who, lambda x: network.logits(x).amax(dim=1), inputs)
        return -self.scale * torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)
