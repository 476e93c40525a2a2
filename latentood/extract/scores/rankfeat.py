"""RankFeat: the energy of the logits after the largest part of a feature map is taken out."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from latentood.errors import ModelError, suggest
from latentood.extract.scores.base import ScoreTap
from latentood.extract.scores.network import Network


@dataclass(frozen=True)
class RankFeat(ScoreTap):
    """−logsumexp of the logits when a layer gives X − s₁u₁v₁ᵀ instead of its map X.

    Song et al. 2022. X is channels × positions, s₁ its largest singular value. The vectors come
    from an exact eigendecomposition of the smaller Gram matrix, so no power iteration is needed.
    One layer, where the paper also averages the logits of two.
    """

    name = "rankfeat"
    paper = "arXiv:2209.08590, sec. 3"
    layer: str = Field(
        "", description="module whose map loses its largest part; empty: the last that gives one"
    )

    def settle(self, network: Network) -> Self:
        """Find the layer, or check the one that is named."""
        maps = find_maps(network)
        if not maps:
            raise ModelError(
                f"{self.who}: the model must have a module that gives maps (B, C, H, W) or tokens "
                "(B, L, D) once per forward pass, got none; remove it from scores:"
            )
        if self.layer and self.layer not in maps:
            raise ModelError(
                f"{self.who}: layer must be a module that gives maps (B, C, H, W) or tokens "
                f"(B, L, D) once per forward pass, got {self.layer!r}; {suggest(self.layer, maps)}"
            )
        return replace(self, layer=self.layer or maps[-1])

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Run the model with the changed map: (B,)."""
        with torch.no_grad(), network.replacing(self.layer, without_largest):
            return -torch.logsumexp(network.logits(inputs), dim=1)


def find_maps(network: Network) -> list[str]:
    """Name the modules that run once and give a map or tokens, in the order they finish."""
    outputs: dict[str, list[Any]] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name, module in network.model.named_modules():

            def see(m: nn.Module, args: Any, out: Any, name: str = name) -> None:
                outputs.setdefault(name, []).append(out)

            hooks.callback(module.register_forward_hook(see).remove)
        network.logits(network.probe)
    return [name for name, found in outputs.items() if len(found) == 1 and _is_map(found[0])]


def _is_map(output: Any) -> bool:
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        return False
    return min(output.flatten(2).shape[1:]) > 1  # of one column, nothing would be left


def without_largest(maps: Tensor) -> Tensor:
    """Subtract the best approximation of rank 1 from every row's matrix.

    Args:
        maps: (B, C, H, W), a matrix of channels × positions per row, or (B, L, D).

    Returns:
        The same shape and dtype.
    """
    matrix = maps.flatten(2).double()
    tall = matrix.shape[1] > matrix.shape[2]
    gram = matrix.mT @ matrix if tall else matrix @ matrix.mT
    first = torch.linalg.eigh(gram).eigenvectors[:, :, -1:]  # of the largest eigenvalue
    largest = (matrix @ first) @ first.mT if tall else first @ (first.mT @ matrix)
    changed: Tensor = (matrix - largest).view_as(maps).to(maps.dtype)
    return changed
