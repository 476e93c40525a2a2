"""The small Faster R-CNN."""

import pytest
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from latentood.data import DigitScenes
from latentood.errors import ModelError
from latentood.models import DropBlock, faster_rcnn

SMALL = {"widths": (4, 8), "hidden": 16, "proposals": 10}


def test_all_but_the_backbone_is_torchvisions():
    net = faster_rcnn(3, **SMALL)
    assert type(net) is FasterRCNN
    assert type(net.rpn.head) is RPNHead
    assert type(net.roi_heads.box_head) is TwoMLPHead
    assert type(net.roi_heads.box_predictor) is FastRCNNPredictor


def test_the_backbone_ends_with_a_dropblock_on_one_map():
    net = faster_rcnn(3, widths=(4, 8, 12), p=0.3, block_size=5)
    names = [name for name, _ in net.backbone.named_children()]
    assert names == ["conv1", "bn1", "relu", "layer1", "layer2", "layer3", "dropblock"]
    assert isinstance(net.backbone.dropblock, DropBlock)
    assert (net.backbone.dropblock.p, net.backbone.dropblock.block_size) == (0.3, 5)
    assert net.eval().backbone(torch.randn(2, 3, 64, 48)).shape == (2, 12, 8, 6)


def test_images_are_resized_but_not_normalised():
    net = faster_rcnn(3, **SMALL, min_size=32, max_size=48)
    image = torch.randn(3, 16, 20)
    batch, _ = net.transform([image])
    assert batch.image_sizes == [(32, 40)]
    resized = torch.nn.functional.interpolate(image[None], (32, 40), mode="bilinear")
    torch.testing.assert_close(batch.tensors[..., :32, :40], resized)


def test_anchors_have_the_sides_and_ratios_that_are_asked_for():
    net = faster_rcnn(3, **SMALL, anchors=(10, 20), ratios=(1.0, 4.0))
    images, _ = net.transform([torch.zeros(3, 64, 64)])
    (anchors,) = net.rpn.anchor_generator(images, [net.backbone.eval()(images.tensors)])
    sides = (anchors[:4, 2:] - anchors[:4, :2]).tolist()
    assert sorted(sides) == [[4, 20], [10, 10], [10, 40], [20, 20]]  # torchvision rounds halves
    assert len(anchors) == 4 * 16 * 16


def test_the_box_head_sees_at_most_as_many_proposals_as_are_asked_for():
    net = faster_rcnn(3, **{**SMALL, "proposals": 7}).eval()
    seen = []
    net.roi_heads.box_head.register_forward_hook(lambda module, args, out: seen.append(out))
    net([torch.randn(3, 64, 64), torch.randn(3, 64, 80)])
    assert seen[0].shape == (14, 16)


def test_it_trains_on_scenes_and_then_gives_detections():
    torch.manual_seed(0)
    scenes = DigitScenes(4, [0, 1], targets="boxes")
    images, targets = map(list, zip(*scenes, strict=True))
    net = faster_rcnn(3, **{**SMALL, "proposals": 50})
    objectness = []
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(8):
        losses = net(images, targets)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        objectness.append(losses["loss_objectness"].item())
    assert all(bool(one.grad.any()) for one in net.parameters())
    assert objectness[-1] < 0.8 * objectness[0]
    assert all(set(one) == {"boxes", "labels", "scores"} for one in net.eval()(images))


@pytest.mark.parametrize("widths", [(), (4, 0)])
def test_stages_without_channels_are_refused(widths):
    with pytest.raises(ModelError, match="faster_rcnn: widths must be one number ≥ 1 for each sta"):
        faster_rcnn(2, widths=widths)
