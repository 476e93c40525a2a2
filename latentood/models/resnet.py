"""The residual network for small images that all reference ResNets are made of.

He et al. 2016, arXiv:1512.03385, section 4.2: a 3×3 stem without pooling, stages of basic
blocks that halve the map from the second stage on, the mean over positions, a linear head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from latentood.models.dropblock import DropBlock

Shortcut = Callable[[int, int], nn.Module]
"""Builds the shortcut of a block that halves the map: (inputs, outputs) → module."""


class PaddedSubsample(nn.Module):
    """Option A: take every second position, fill the new channels with zeros; no weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        before = (outputs - inputs) // 2
        self.padding = (before, outputs - inputs - before)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, ⌈H/2⌉, ⌈W/2⌉)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, *self.padding))


def projection(inputs: int, outputs: int) -> nn.Module:
    """Option B: a 1×1 convolution with stride 2 and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class ResNet(nn.Module):
    """Stem, stages, mean over positions, head.

    Args:
        depths: Blocks of each stage.
        widths: Channels of each stage; the stem has those of the first.
        num_classes: Outputs of the head.
        in_channels: Channels of an image.
        shortcut: Builds the shortcut of a block that halves the map.
        head: Name of the last linear layer.
        dropout: Module between the last stage and the mean over positions.
        dropblocks: Modules behind stages, by the number of the stage, from 1.

    Modules: ``conv1``, ``bn1``, ``layer1`` …, ``dropblock1`` … and ``dropout`` where there are
    some, and the head.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        in_channels: int = 3,
        shortcut: Shortcut = projection,
        head: str = "fc",
        dropout: nn.Module | None = None,
        dropblocks: Mapping[int, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        incoming = widths[0]
        trunk = []
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            trunk.append(f"layer{number}")
            self.add_module(trunk[-1], stage(incoming, width, depth, number > 1, shortcut))
            incoming = width
            if dropblocks and number in dropblocks:
                trunk.append(f"dropblock{number}")
                self.add_module(trunk[-1], dropblocks[number])
        if dropout is not None:
            trunk.append("dropout")
            self.add_module("dropout", dropout)
        self.add_module(head, nn.Linear(incoming, num_classes))
        self._trunk, self._head = trunk, head
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) → logits (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        for name in self._trunk:
            out = self.get_submodule(name)(out)
        logits: Tensor = self.get_submodule(self._head)(out.mean(dim=(2, 3)))
        return logits


def digits_resnet(num_classes: int = 10, p: float = 0.4, block_size: int = 3) -> ResNet:
    """Build a ResNet for small grey images that trains within seconds on a CPU, for the demo.

    Three stages of one block, widths 16, 32, 64, and DropBlock (``dropout``) after the last
    stage: on while training, and again in the stochastic passes.

    Args:
        num_classes: Outputs of the head (``fc``).
        p: Drop probability of the DropBlock.
        block_size: Side of its blocks, in positions of the last stage's map.
    """
    return ResNet(
        depths=(1, 1, 1),
        widths=(16, 32, 64),
        num_classes=num_classes,
        in_channels=1,
        dropout=DropBlock(p=p, block_size=block_size, shared=True),
    )


def stage(inputs: int, width: int, depth: int, halve: bool, shortcut: Shortcut) -> nn.Sequential:
    """Build ``depth`` basic blocks, of which the first may halve the map."""
    beside = shortcut(inputs, width) if halve else nn.Identity()
    first = BasicBlock(inputs, width, stride=2 if halve else 1, shortcut=beside)
    rest = (BasicBlock(width, width, stride=1, shortcut=nn.Identity()) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)
