"""The prototypes that a network was trained with."""

from __future__ import annotations

from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.latents import Key, Latents
from latentood.latents.key import NETWORK
from latentood.plugins import hyper, plugin


@plugin
class PrototypeDistance(Detector):
    """Squared distance of a row to the nearest prototype that the network learnt."""

    name = "prototype_distance"
    family = "prototypes"
    paper = "arXiv:1805.03438, sec. 4"
    works = "Networks trained with the objective prototypes: ID rows gather around them."
    fails = "Inputs without any features: they lie where the network maps 0, maybe near one."
    cost = "no fit, O(C) per row"
    of_head = "distance"
    head: str = hyper(NETWORK, "head whose prototypes are meant")

    def needs(self) -> Needs:
        """Declare the distances."""
        return Needs((Key("distance", self.head),))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Take the smallest distance: (N,) ≥ 0."""
        return rows.double(Key("distance", self.head)).amin(dim=1)
