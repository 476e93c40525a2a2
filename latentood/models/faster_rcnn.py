"""Faster R-CNN with a backbone small enough to be trained on a CPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from latentood.errors import ModelError
from latentood.models.dropblock import DropBlock
from latentood.models.resnet import projection, stage

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN

_CANDIDATES = 4  # anchors that go into non-maximum suppression, for each proposal that is kept
_POOLED = 5  # side of the map of a region that the box head reads
_SAMPLED = 64  # anchors, and proposals, of an image that the losses are of


def faster_rcnn(
    num_classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    p: float = 0.0,
    block_size: int = 3,
    min_size: int = 64,
    max_size: int = 96,
    anchors: Sequence[int] = (12, 18, 26),
    ratios: Sequence[float] = (1.0,),
    proposals: int = 50,
    hidden: int = 128,
) -> FasterRCNN:
    """Build torchvision's Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) on a small ResNet.

    The backbone is a 3×3 convolution that halves the image, a stage of one basic block for each
    width, all but the first of which halve the map, and a DropBlock: one map, no pyramid. The
    rest is torchvision's, with fewer proposals and a smaller box head. All is trained from
    scratch, batch norms too. Images are taken as they are: the pipeline's transform normalises.

    Modules: ``backbone.conv1``, ``backbone.bn1``, ``backbone.layer1`` …, ``backbone.dropblock``,
    and those of torchvision: ``rpn.head``, ``roi_heads.box_head``, ``roi_heads.box_predictor``.

    Args:
        num_classes: C, with the background, which is class 0.
        widths: Channels of each stage. A position of the map is 2 to the power of their number
            in pixels.
        p: Drop probability of the DropBlock.
        block_size: Side of its blocks, in positions of the map.
        min_size: Pixels of the shorter side that images are resized to.
        max_size: Largest pixels of the longer side.
        anchors: Sides of the anchors at every position, in pixels of the resized image.
        ratios: Their ratios of height to width.
        proposals: Regions of an image that the box head sees.
        hidden: Width of the two layers of the box head.

    Raises:
        ModelError: There are no widths.
    """
    # slow to import, and only this needs them
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    if not widths or min(widths) < 1:
        raise ModelError(
            f"faster_rcnn: widths must be one number ≥ 1 for each stage, got {list(widths)}; "
            "e.g. [16, 32, 64]"
        )
    return FasterRCNN(
        _backbone(widths, DropBlock(p=p, block_size=block_size)),
        min_size=min_size,
        max_size=max_size,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator((tuple(anchors),), (tuple(ratios),)),
        rpn_pre_nms_top_n_train=_CANDIDATES * proposals,
        rpn_pre_nms_top_n_test=_CANDIDATES * proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_batch_size_per_image=_SAMPLED,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=_POOLED, sampling_ratio=2),
        box_head=TwoMLPHead(widths[-1] * _POOLED**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes),
        box_batch_size_per_image=_SAMPLED,
    )


class _Backbone(nn.Sequential):
    out_channels: int  # where FasterRCNN looks for the channels of the map


def _backbone(widths: Sequence[int], dropblock: nn.Module) -> _Backbone:
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
        bn1=nn.BatchNorm2d(widths[0]),
        relu=nn.ReLU(),
    )
    for number, (inputs, width) in enumerate(pairwise((widths[0], *widths)), start=1):
        modules[f"layer{number}"] = stage(inputs, width, 1, number > 1, projection)
    modules["dropblock"] = dropblock
    backbone = _Backbone(modules)
    backbone.out_channels = widths[-1]
    return backbone
