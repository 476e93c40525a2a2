"""DropBlock: dropout of square regions of a feature map (Ghiasi et al. 2018, arXiv:1810.12890).

Here are the blocks of the paper and of each library that differs from it, for the module below and
for the stochastic passes of an extraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock(nn.Module):
    """Zero square regions of a map and scale up what is left (algorithm 1 of the paper).

    Seeds are drawn where their block lies fully inside the map, with the probability γ that
    makes the expected dropped share about ``p`` (eq. 1; overlaps lower it a little). The
    identity in eval mode.

    Departures: the scale count(M)/count_ones(M) is taken per sample and not over the batch,
    so that a row's output does not depend on the rows beside it; a sample whose whole map is
    dropped gives zeros. A block ends where a side of the map does. Masks are drawn out of
    place, so the module runs under ``torch.func.vmap``.

    Args:
        p: Drop probability, 0 ≤ p < 1.
        block_size: Side of a block in positions.
        shared: One mask for all channels of a sample; else one per channel.

    Raises:
        ValueError: ``p`` or ``block_size`` is outside its range.
    """

    def __init__(self, p: float = 0.1, block_size: int = 7, shared: bool = True) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"DropBlock: p must be ≥ 0 and < 1, got {p}; 0.1 to 0.5 is usual")
        if block_size < 1:
            raise ValueError(
                f"DropBlock: block_size must be ≥ 1, got {block_size}; 1 drops single positions"
            )
        self.p = p
        self.block_size = block_size
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        if not self.training or self.p == 0:
            return x
        blocks = paper(self.p, self.block_size, tuple(x.shape[2:]))
        channels = 1 if self.shared else x.shape[1]
        uniform = torch.rand(x.shape[0], channels, *blocks.places, device=x.device)
        mask = blocks.keep(uniform).to(x.dtype)
        return x * mask * scale(mask).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"p={self.p}, block_size={self.block_size}, shared={self.shared}"


@dataclass(frozen=True)
class Blocks:
    """The blocks that may be dropped from a map of two or three axes.

    A seed drops the block around it, or what of it lies on the map.
    """

    shape: tuple[int, ...]  # of the map, (H, W) or (D, H, W)
    sides: tuple[int, ...]  # of a block
    gamma: float  # γ, the probability of a seed at each place
    reach: tuple[tuple[int, int], ...]  # per axis: places before and after one that can drop it

    @property
    def places(self) -> tuple[int, ...]:
        """Where a seed may lie: the whole map, or less where blocks must lie inside it."""
        axes = zip(self.shape, self.sides, self.reach, strict=True)
        return tuple(length + side - 1 - sum(reach) for length, side, reach in axes)

    def keep(self, uniform: Tensor) -> Tensor:
        """Turn (N, C, *places) in [0, 1) into a mask (N, C, *shape): 1 where the map is kept."""
        seeds = (uniform < self.gamma).to(uniform.dtype)
        padding = [cells for reach in reversed(self.reach) for cells in reach]
        pool = F.max_pool2d if len(self.shape) == 2 else F.max_pool3d
        return 1 - pool(F.pad(seeds, padding), self.sides, stride=1)


Variant = Callable[[float, int, tuple[int, ...]], Blocks]
"""Gives the blocks for (p, block size, shape of the map)."""


def paper(p: float, block_size: int, shape: tuple[int, ...]) -> Blocks:
    """Blocks that lie inside the map, with γ of eq. 1."""
    sides = tuple(min(block_size, length) for length in shape)
    places = (length - side + 1 for length, side in zip(shape, sides, strict=True))
    gamma = p / math.prod(sides) * math.prod(shape) / math.prod(places)
    return Blocks(shape, sides, gamma, tuple((side - 1, side - 1) for side in sides))


def torchvision(p: float, block_size: int, shape: tuple[int, ...]) -> Blocks:
    """Blocks of ``torchvision.ops``: those of the paper, cubic on the shortest side of the map."""
    return paper(p, min(block_size, *shape), shape)


def timm(p: float, block_size: int, shape: tuple[int, ...]) -> Blocks:
    """Blocks of timm ≥ 1.0.23: γ of eq. 1, and seeds on the whole map, so more goes at its edge."""
    inside = paper(p, block_size, shape)
    reach = tuple(((side - 1) // 2, side // 2) for side in inside.sides)
    return Blocks(shape, inside.sides, inside.gamma, reach)


def dropblock(p: float, block_size: int, shape: tuple[int, ...]) -> Blocks:
    """Blocks of the package ``dropblock``: γ = p/b² (p/b³ in 3D), seeds on the whole map."""
    sides = (block_size,) * len(shape)
    reach = ((block_size // 2, (block_size - 1) // 2),) * len(shape)
    return Blocks(shape, sides, p / math.prod(sides), reach)


VARIANTS: dict[str, Variant] = {
    variant.__name__: variant for variant in (paper, torchvision, timm, dropblock)
}


def scale(mask: Tensor) -> Tensor:
    """Give count(M)/count_ones(M) of each sample's mask: (N, C, H, W) → (N, 1, 1, 1)."""
    kept = mask.float().sum(dim=tuple(range(1, mask.dim())), keepdim=True)
    # Nothing kept leaves nothing to scale: any finite factor turns the zeros into zeros.
    return math.prod(mask.shape[1:]) / kept.clamp(min=1)
