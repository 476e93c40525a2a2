"""The network of the demo."""

from __future__ import annotations

from latentood.models.dropblock import DropBlock
from latentood.models.resnet import ResNet


def digits_resnet(num_classes: int = 10, p: float = 0.4, block_size: int = 3) -> ResNet:
    """Build a ResNet for small grey images that trains within seconds on a CPU.

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
