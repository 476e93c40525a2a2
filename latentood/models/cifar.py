"""ResNets for 32×32 colour images."""

from __future__ import annotations

from torch import nn

from latentood.models.dropblock import DropBlock
from latentood.models.resnet import PaddedSubsample, ResNet


def cifar_resnet20(num_classes: int = 10) -> ResNet:
    """Build the ResNet-20 of He et al. 2016, section 4.2: 3 stages × 3 blocks, 0.27 M weights.

    Widths 16, 32, 64 and weightless option-A shortcuts. Modules: ``conv1``, ``bn1``,
    ``layer1`` to ``layer3``, ``linear``.
    """
    return _cifar_resnet(3, num_classes)


def cifar_resnet32(num_classes: int = 10) -> ResNet:
    """Build the ResNet-32 of the same family: 3 stages × 5 blocks."""
    return _cifar_resnet(5, num_classes)


def cifar_resnet44(num_classes: int = 10) -> ResNet:
    """Build the ResNet-44 of the same family: 3 stages × 7 blocks."""
    return _cifar_resnet(7, num_classes)


def cifar_resnet56(num_classes: int = 10) -> ResNet:
    """Build the ResNet-56 of the same family: 3 stages × 9 blocks."""
    return _cifar_resnet(9, num_classes)


def cifar_resnet18(
    num_classes: int = 10,
    *,
    width: int = 64,
    dropblock: float = 0.0,
    block_size: int = 5,
    dropout: float = 0.0,
) -> ResNet:
    """Build the ResNet-18 of OOD benchmarks: the ImageNet net with a 3×3 stem, no first pooling.

    Four stages × 2 blocks, widths 64 to 512, option-B shortcuts; 11.2 M weights. Modules are
    named as in torchvision: ``conv1``, ``bn1``, ``layer1`` to ``layer4``, ``fc``.

    Args:
        num_classes: Outputs of the head.
        width: Channels of the first stage; every other has twice those of the one before.
        dropblock: Drop probability of a DropBlock (``dropblock3``) behind ``layer3``, where the
            map of a 32×32 image has 8×8 positions; 0: there is none.
        block_size: Side of its blocks.
        dropout: Drop probability of each feature that goes into the head (``dropout``); 0: there
            is none.
    """
    return ResNet(
        depths=(2, 2, 2, 2),
        widths=tuple(width << stage for stage in range(4)),
        num_classes=num_classes,
        # A dropped channel of the map is a dropped feature of its mean.
        dropout=nn.Dropout2d(dropout) if dropout else None,
        dropblocks={3: DropBlock(dropblock, block_size)} if dropblock else None,
    )


def _cifar_resnet(depth: int, num_classes: int) -> ResNet:
    return ResNet(
        depths=(depth,) * 3,
        widths=(16, 32, 64),
        num_classes=num_classes,
        shortcut=PaddedSubsample,
        head="linear",
    )
