"""How the output of a layer becomes one array per row.

A reduction declares the shape that it gives, so that a cache can be laid out before anything runs.
Other packages add theirs by the entry-point group ``latentood.reductions``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from latentood.errors import ModelError
from latentood.plugins import Plugin, Registry, plugin

Shape = tuple[int, ...]


@plugin
class Reduction(Plugin, ABC):
    """One way to reduce the output of a layer; docs show the first line of its docstring."""

    kind = "reduction"
    refusal = ModelError
    remedy = "change it under layers: in the pipeline"

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Reduce the output of a layer: (B, …) → (B, …), each row by itself."""

    @abstractmethod
    def shape(self, row: Shape) -> Shape:
        """Give the shape of one row after it, from that before it.

        Raises:
            ModelError: It does not apply to rows of this shape.
        """


def positions_last(x: Tensor) -> Tensor:
    """Bring positions last: maps (B, C, …) → (B, C, P), tokens (B, L, D) → (B, D, L)."""
    if x.dim() == 2:
        return x[:, :, None]
    return x.transpose(1, 2) if x.dim() == 3 else x.flatten(2)


@plugin
class _OverPositions(Reduction):
    """Numbers for each channel of maps (C, …), tokens (L, D) or vectors (D,)."""

    def shape(self, row: Shape) -> Shape:
        """Give the number of channels."""
        return (row[-1] if len(row) == 2 else row[0],)


@plugin
class Mean(_OverPositions):
    """Mean over positions: maps (C, …), tokens (L, D)."""

    name = "mean"

    def apply(self, x: Tensor) -> Tensor:
        """Average over positions."""
        return positions_last(x).mean(dim=2)


@plugin
class Max(_OverPositions):
    """Largest over positions."""

    name = "max"

    def apply(self, x: Tensor) -> Tensor:
        """Take the largest over positions."""
        return positions_last(x).amax(dim=2)


@plugin
class Std(_OverPositions):
    """Standard deviation over positions."""

    name = "std"

    def apply(self, x: Tensor) -> Tensor:
        """Give the population standard deviation over positions."""
        return positions_last(x).std(dim=2, correction=0)


@plugin
class MeanStd(_OverPositions):
    """Mean, then standard deviation, over positions."""

    name = "mean+std"

    def apply(self, x: Tensor) -> Tensor:
        """Put both side by side."""
        return torch.cat([Mean().apply(x), Std().apply(x)], dim=1)

    def shape(self, row: Shape) -> Shape:
        """Give twice the number of channels."""
        return (2 * super().shape(row)[0],)


@plugin
class TokensMean(Reduction):
    """Mean over all axes but the last: channels-last maps (H, W, C), tokens (L, D)."""

    name = "tokens-mean"

    def apply(self, x: Tensor) -> Tensor:
        """Average over all axes but the last."""
        return x.flatten(1, -2).mean(dim=1)

    def shape(self, row: Shape) -> Shape:
        """Give the last axis."""
        if len(row) < 2:
            raise ModelError(
                f"reduction tokens-mean: needs positions before the last axis, got {row}"
            )
        return (row[-1],)


@plugin
class FirstToken(Reduction):
    """First token of (L, D)."""

    name = "cls"

    def apply(self, x: Tensor) -> Tensor:
        """Take the first token."""
        return x[:, 0]

    def shape(self, row: Shape) -> Shape:
        """Give the width of a token."""
        if len(row) != 2:
            raise ModelError(f"reduction cls: needs tokens (L, D) per row, got {row}; use mean")
        return (row[1],)


@plugin
class Flatten(Reduction):
    """Every value, as one vector."""

    name = "flatten"

    def apply(self, x: Tensor) -> Tensor:
        """Put all values in a row."""
        return x.flatten(1)

    def shape(self, row: Shape) -> Shape:
        """Give the number of values."""
        return (math.prod(row),)


@plugin
class Gram(_OverPositions):
    """Row sums of Gram matrices of order 1 to 5, for the detector gram.

    ``G_p = (F^p F^pᵀ)^(1/p)`` for channels × positions F, powers by element, the root signed
    (Sastry, Oore 2020, arXiv:1912.12510, eq. 1). The rows of G_p are summed, so that 5·C numbers
    stand for the 5·C² of the paper.
    """

    name = "gram"
    orders: ClassVar[int] = 5

    def apply(self, x: Tensor) -> Tensor:
        """Sum the rows of the Gram matrices of every order."""
        maps = positions_last(x)
        sums = []
        for order in range(1, self.orders + 1):
            raised = maps**order
            product = raised @ raised.transpose(1, 2)
            sums.append((product.sign() * product.abs() ** (1 / order)).sum(dim=2))
        return torch.cat(sums, dim=1)

    def shape(self, row: Shape) -> Shape:
        """Give one number for each order and channel."""
        return (self.orders * super().shape(row)[0],)


@plugin
class Gram10(Gram):
    """As gram, of order 1 to 10, as in the paper's experiments.

    In float64 inside: the twentieth power of an activation above 84 is none in float32.
    """

    name = "gram10"
    orders = 10

    def apply(self, x: Tensor) -> Tensor:
        """Sum the rows of the Gram matrices of every order."""
        return super().apply(x.double()).to(x.dtype)


@plugin
class Map(Reduction):
    """Everything, unreduced."""

    name = "map"

    def apply(self, x: Tensor) -> Tensor:
        """Keep the output as it is."""
        return x

    def shape(self, row: Shape) -> Shape:
        """Keep the shape."""
        return row


@plugin
class BoxMaps(Map):
    """Maps of layers of a detector; not among those that a pipeline names."""

    name = "boxes"

    def shape(self, row: Shape) -> Shape:
        """Keep the shape."""
        if len(row) != 3:
            raise ModelError(
                f"unit box: layers must give maps (B, C, H, W), got {row} per image; remove it "
                "from layers:, or name a layer before positions are lost"
            )
        return row


REDUCTIONS: Registry[Reduction] = Registry(
    Reduction, group="latentood.reductions", noun="reduction"
)
REDUCTIONS.add(Mean, Max, Std, MeanStd, TokensMean, FirstToken, Flatten, Gram, Gram10, Map)
