"""Mahalanobis distances of several layers, fused into one score."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, Detector, Needs, Ridge, State
from latentood.detectors.families.gaussian.distances import Mahalanobis
from latentood.detectors.statistics.moments import DistanceMoments
from latentood.errors import DetectorError
from latentood.latents import PENULTIMATE, Latents, Statistic
from latentood.plugins import hyper, plugin


@plugin
class _LayerDistance(Mahalanobis):
    """The distance of one layer, whose messages begin with the name of the fusion."""

    name = "mahalanobis_layers"


@plugin
class MahalanobisLayers(Detector):
    """Mahalanobis distances to the nearest class at several layers, in a weighted sum.

    ``Σ_l α_l·M_l(h_l)`` with M_l the score of ``mahalanobis`` at layer l; Lee et al. 2018, without
    their input perturbation. ``uniform``: α = 1. ``weighted``: α as given. ``standardised``, which
    is ours: each M_l less its mean and divided by its standard deviation over the ID validation
    rows, so that no layer counts more for being wider.

    The logistic regression by which the paper finds α is not offered: it is trained on OOD
    validation rows, and a detector that has seen OOD cannot be compared with those that have not.
    Whoever has such rows fits α on the scores of ``mahalanobis`` per layer and gives it as
    ``fusion=weighted``.
    """

    name = "mahalanobis_layers"
    family = "gaussian"
    paper = "arXiv:1807.03888, sec. 2.2, algorithm 1"
    works = "OOD that shows in textures and edges: early layers see what the last ones discard."
    fails = "Early layers that mix classes: their large, noisy distances drown the good ones."
    cost = "O(Σ_l N·D_l² + D_l³) fit, O(Σ_l D_l² + C·D_l) per row"
    cannot_fit_on = ("one row",)
    layers: tuple[str, ...] = hyper((PENULTIMATE,), "layers whose distances are added up")
    fusion: Literal["uniform", "weighted", "standardised"] = hyper(
        "uniform", "how distances are made comparable"
    )
    alpha: tuple[float, ...] = hyper((), "α of each layer, for fusion=weighted")
    ridge: Ridge = RIDGE

    def __post_init__(self) -> None:
        """Check hyperparameters, also against each other."""
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise DetectorError(
                f"{self.name}: layers must name different layers, at least one, got "
                f"{self.layers!r}; remove the repeated ones"
            )
        expected = len(self.layers) if self.fusion == "weighted" else 0
        if len(self.alpha) != expected:
            raise DetectorError(
                f"{self.name}: alpha must be {expected} numbers for fusion={self.fusion} of "
                f"{len(self.layers)} layers, got {self.alpha!r}; give one α per layer and "
                "fusion=weighted, or neither"
            )

    @property
    def distances(self) -> tuple[Mahalanobis, ...]:
        """Give the detector of every layer."""
        return tuple(_LayerDistance(layer=layer, ridge=self.ridge) for layer in self.layers)

    def needs(self) -> Needs:
        """Declare the features of all layers, labels to fit, and val rows to standardise."""
        parts = [distance.needs() for distance in self.distances]
        score = tuple(key for part in parts for key in part.score)
        fit = tuple(dict.fromkeys(key for part in parts for key in part.fit))
        return Needs(score=score, fit=fit, val=score if self.fusion == "standardised" else ())

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for scatter and class means of every layer."""
        return tuple(s for distance in self.distances for s in distance.statistics())

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the state of every layer as ``<number>.<name>``, and α and offsets (L,)."""
        state = {
            f"{number}.{name}": tensor
            for number, distance in enumerate(self.distances)
            for name, tensor in distance.fit(train).items()
        }
        offset, alpha = self._fusion(train, val)
        device = state["0.mean"].device
        return state | {"offset": offset.to(device), "alpha": alpha.to(device)}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report of every layer its α, and what mahalanobis reports."""
        of_layers = zip(self.layers, state["alpha"].tolist(), self.distances, strict=True)
        return {
            layer: {"alpha": alpha, **distance.diagnostics(_part(state, number))}
            for number, (layer, alpha, distance) in enumerate(of_layers)
        }

    def score(self, state: State, rows: Latents) -> Tensor:
        """Add up the weighted distances: (N,)."""
        scores = [
            distance.score(_part(state, number), rows)
            for number, distance in enumerate(self.distances)
        ]
        return (torch.stack(scores, dim=1) - state["offset"]) @ state["alpha"]

    def _fusion(self, train: Latents, val: Latents | None) -> tuple[Tensor, Tensor]:
        """Give offsets and α (L,) of the layers."""
        count = len(self.layers)
        if self.fusion != "standardised" or val is None:
            alpha = self.alpha if self.fusion == "weighted" else (1.0,) * count
            return torch.zeros(count).double(), torch.tensor(alpha, dtype=torch.float64)
        questions = [DistanceMoments(distance, train) for distance in self.distances]
        val.gather(questions)
        mean, spread = torch.stack([val.compute(question) for question in questions]).unbind(1)
        same = spread <= 1e-12 * mean.abs()
        if bool(same.any()):
            layer = self.layers[int(same.nonzero()[0])]
            raise DetectorError(
                f"{self.name}: distances at {layer} must vary over the ID val rows to be "
                f'standardised, got {len(val)} rows of "{val.name}" with one distance; extract '
                "more of them or set fusion=uniform"
            )
        return mean, spread.reciprocal()


def _part(state: State, number: int) -> State:
    """The state of one layer."""
    lead = f"{number}."
    return {name[len(lead) :]: t for name, t in state.items() if name.startswith(lead)}
