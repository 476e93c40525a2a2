"""U-Net, a network that gives a class to every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentood.errors import ModelError
from latentood.models.dropblock import DropBlock


class UNet(nn.Module):
    """An encoder that halves the map, and a decoder that sees each of its maps again.

    Ronneberger et al. 2015, arXiv:1505.04597, section 2. Departures: convolutions are padded, so
    that logits have the size of the image; batch norm behind each of them; the dropout at the end
    of the encoder (section 3.1) is a DropBlock.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of an image.
        widths: Channels of each level, from the full size down; the map is halved between levels.
        dropblock: Module at the end of the encoder.

    Modules: ``encoder1`` …, ``dropblock``, ``up1`` …, ``decoder1`` …, ``head``, each number that
    of a level. ``head`` is a convolution of 1×1.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, widths: Sequence[int], dropblock: nn.Module
    ) -> None:
        super().__init__()
        self.levels = len(widths)
        for level, (inputs, width) in enumerate(pairwise((in_channels, *widths)), start=1):
            self.add_module(f"encoder{level}", _convolutions(inputs, width))
        self.dropblock = dropblock
        for level in range(self.levels - 1, 0, -1):
            width, below = widths[level - 1 : level + 1]
            self.add_module(f"up{level}", nn.ConvTranspose2d(below, width, 2, stride=2))
            self.add_module(f"decoder{level}", _convolutions(2 * width, width))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) → logits (N, num_classes, H, W).

        Raises:
            ModelError: H or W cannot be halved as often as needed.
        """
        divisor = 1 << (self.levels - 1)
        if x.shape[-2] % divisor or x.shape[-1] % divisor:
            raise ModelError(
                f"unet: height and width must be multiples of {divisor} for {self.levels} levels, "
                f"got {x.shape[-2]} × {x.shape[-1]}; pad images with torchvision.transforms.v2.Pad"
            )
        out = self.get_submodule("encoder1")(x)
        maps = [out]
        for level in range(2, self.levels + 1):
            out = self.get_submodule(f"encoder{level}")(F.max_pool2d(out, 2))
            maps.append(out)
        out = self.dropblock(out)
        for level in range(self.levels - 1, 0, -1):
            up = self.get_submodule(f"up{level}")(out)
            out = self.get_submodule(f"decoder{level}")(torch.cat([maps[level - 1], up], dim=1))
        logits: Tensor = self.head(out)
        return logits


def unet(
    num_classes: int,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64, 128),
    p: float = 0.3,
    block_size: int = 3,
) -> UNet:
    """Build a small U-Net with a DropBlock (``dropblock``) at the end of the encoder.

    It is on while training, and again in the stochastic passes.

    Args:
        num_classes: Channels of the logits: C, with that of the background.
        in_channels: Channels of an image.
        widths: Channels of each level, from the full size down. Sides of images must be multiples
            of 2 to the power of the number of levels less one.
        p: Drop probability of the DropBlock.
        block_size: Side of its blocks, in positions of the last level's map.

    Raises:
        ModelError: There are no widths.
    """
    if not widths or min(widths) < 1:
        raise ModelError(
            f"unet: widths must be one number ≥ 1 for each level, got {list(widths)}; "
            "e.g. [16, 32, 64, 128]"
        )
    return UNet(
        num_classes=num_classes,
        in_channels=in_channels,
        widths=widths,
        dropblock=DropBlock(p=p, block_size=block_size),
    )


def _convolutions(inputs: int, width: int) -> nn.Sequential:
    """Two convolutions of 3×3, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
    )  # fmt: skip
