"""RankFeat: the energy of the logits after the largest part of a feature map is taken out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from latentood.detectors.families.logits.scores import Energy
from latentood.detectors.families.score_taps.base import Network, ScoreTap
from latentood.errors import ModelError, suggest
from latentood.plugins import hyper, plugin


@plugin
class RankFeat(ScoreTap):
    """−logsumexp of the logits when a layer gives X − s₁u₁v₁ᵀ instead of its map X.

    Song et al. 2022. X is channels × positions, s₁ its largest singular value. The vectors come
    from an exact eigendecomposition of the smaller Gram matrix, so no power iteration is needed.
    One layer, where the paper also averages the logits of two.
    """

    name = "rankfeat"
    paper = "arXiv:2209.08590, sec. 3"
    works = "Large networks whose OOD maps owe their strength to one singular value."
    fails = "Small maps, where the largest part is most of what makes a class."
    cost = "one forward and an eigendecomposition"
    layer: str = hyper(
        "", "module whose map loses its largest part; empty: the last that gives one"
    )

    def settle(self, network: Network) -> Self:
        """Find the layer, or check the one that is named."""
        maps = network.maps
        if not maps:
            raise ModelError(
                f"{self.who}: the model must have a module that gives maps (B, C, H, W) or tokens "
                "(B, L, D) once per forward, got none; remove it from scores:"
            )
        if self.layer and self.layer not in maps:
            raise ModelError(
                f"{self.who}: layer must be a module that gives maps (B, C, H, W) or tokens "
                f"(B, L, D) once per forward, got {self.layer!r}; {suggest(self.layer, maps)}"
            )
        return replace(self, layer=self.layer or maps[-1])

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Run the model with the changed map: (B,)."""
        positions_first = network.positions_first(self.layer)

        def change(maps: Tensor) -> Tensor:
            return without_largest(maps, positions_first=positions_first)

        with torch.no_grad(), network.replacing(self.layer, change):
            return Energy().of_logits(network.logits(inputs))


def without_largest(maps: Tensor, *, positions_first: bool = False) -> Tensor:
    """Subtract the best approximation of rank 1 from every row's matrix; shape and dtype stay.

    Maps are (B, C, H, W), a matrix of channels × positions per row, or (B, L, D);
    ``positions_first`` says that they are (B, H, W, C).
    """
    matrix = (maps.flatten(1, -2) if positions_first else maps.flatten(2)).double()
    tall = matrix.shape[1] > matrix.shape[2]
    gram = matrix.mT @ matrix if tall else matrix @ matrix.mT
    first = torch.linalg.eigh(gram).eigenvectors[:, :, -1:]  # of the largest eigenvalue
    largest = (matrix @ first) @ first.mT if tall else first @ (first.mT @ matrix)
    changed: Tensor = (matrix - largest).view_as(maps).to(maps.dtype)
    return changed
