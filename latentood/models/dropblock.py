"""DropBlock: dropout of square regions of a feature map (Ghiasi et al. 2018, arXiv:1810.12890)."""

from __future__ import annotations

import math

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
    dropped gives zeros. A map smaller than a block is one block. Masks are drawn out of
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
        size = min(self.block_size, *x.shape[-2:])
        places = (x.shape[-2] - size + 1, x.shape[-1] - size + 1)
        channels = 1 if self.shared else x.shape[1]
        uniform = torch.rand(x.shape[0], channels, *places, device=x.device)
        mask = keep_mask(uniform, p=self.p, block_size=size).to(x.dtype)
        return x * mask * scale(mask).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"p={self.p}, block_size={self.block_size}, shared={self.shared}"


def keep_mask(uniform: Tensor, *, p: float, block_size: int) -> Tensor:
    """Turn uniform random numbers into a mask (N, C, H, W), 1 where the map is kept, 0 in blocks.

    ``uniform`` (N, C, H-b+1, W-b+1) in [0, 1) has one number for each place of a block's upper
    left corner in an H×W map; the block size b is at most H and W.
    """
    reach = block_size - 1
    rows, columns = uniform.shape[-2:]
    area = (rows + reach) * (columns + reach)
    gamma = p * area / (block_size**2 * rows * columns)
    seeds = (uniform < gamma).to(uniform.dtype)
    dropped = F.max_pool2d(F.pad(seeds, (reach,) * 4), block_size, stride=1)
    return 1 - dropped


def scale(mask: Tensor) -> Tensor:
    """Give count(M)/count_ones(M) of each sample's mask: (N, C, H, W) → (N, 1, 1, 1)."""
    kept = mask.float().sum(dim=(1, 2, 3), keepdim=True)
    # Nothing kept leaves nothing to scale: any finite factor turns the zeros into zeros.
    return math.prod(mask.shape[1:]) / kept.clamp(min=1)
