"""DropBlock of the package ``dropblock`` 0.3.0, written out slowly from its published behaviour.

The classes have the path of the package's, by which they are known.
"""

import torch
from torch import nn


class DropBlock2D(nn.Module):
    """A seed with probability p/b² at every position; it drops b positions of each axis."""

    axes = 2

    def __init__(self, drop_prob, block_size):
        super().__init__()
        self.drop_prob = drop_prob
        self.block_size = block_size

    def forward(self, x):
        if not self.training or self.drop_prob == 0:
            return x
        kept = torch.ones(len(x), *x.shape[2:])
        gamma = self.drop_prob / self.block_size**self.axes
        for row, *seed in (torch.rand(kept.shape) < gamma).nonzero().tolist():
            kept[(row, *map(self._side, seed))] = 0
        return x * kept[:, None] * (kept.numel() / kept.sum())

    def _side(self, position):
        """An even block reaches one position farther after its seed than before."""
        before, after = (self.block_size - 1) // 2, self.block_size // 2
        return slice(max(0, position - before), position + after + 1)


class DropBlock3D(DropBlock2D):
    """The same for (N, C, D, H, W), with p/b³."""

    axes = 3

    def forward(self, x):
        return super().forward(x)


for known in (DropBlock2D, DropBlock3D):
    known.__module__ = "dropblock.dropblock"
