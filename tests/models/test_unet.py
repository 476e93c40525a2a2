"""U-Net."""

import pytest
import torch
from torch.nn import functional as F

from latentood.errors import ModelError
from latentood.models import DropBlock, unet

SMALL = (4, 6, 8)


def test_there_is_a_logit_for_each_class_and_pixel():
    for channels, size in ((3, (16, 24)), (1, (4, 8))):
        net = unet(5, in_channels=channels, widths=SMALL)
        assert net(torch.randn(2, channels, *size)).shape == (2, 5, *size)


def test_modules_have_the_names_of_levels():
    names = [name for name, _ in unet(2, widths=SMALL).named_children()]
    encoder = ["encoder1", "encoder2", "encoder3", "dropblock"]
    assert names == [*encoder, "up2", "decoder2", "up1", "decoder1", "head"]


def test_the_head_is_a_convolution_of_single_pixels_of_what_goes_into_it():
    net, seen = unet(5, widths=SMALL).eval(), {}
    net.head.register_forward_hook(lambda module, args, out: seen.update(features=args[0]))
    logits = net(torch.randn(1, 3, 16, 16))
    assert net.head.kernel_size == (1, 1)
    weight, bias = net.head.weight[:, :, 0, 0], net.head.bias
    expected = torch.einsum("nchw,kc->nkhw", seen["features"], weight) + bias[:, None, None]
    torch.testing.assert_close(logits, expected)


def test_the_dropblock_is_at_the_end_of_the_encoder_and_on_while_training():
    torch.manual_seed(0)
    net, seen = unet(2, widths=SMALL, p=0.4, block_size=3), {}
    assert isinstance(net.dropblock, DropBlock)
    assert (net.dropblock.p, net.dropblock.block_size) == (0.4, 3)
    net.dropblock.register_forward_hook(lambda module, args, out: seen.update(map=out))
    images = torch.randn(8, 3, 64, 64)
    net.eval()
    assert torch.equal(net(images), net(images))
    assert seen["map"].shape == (8, 8, 16, 16)
    net.dropblock.train()
    assert not torch.equal(net(images), net(images))
    assert 0.2 < float((seen["map"] == 0).all(dim=1).float().mean()) < 0.5


def test_a_decoder_reads_the_map_of_its_level_before_that_from_below():
    net = unet(2, widths=(4, 6)).eval()
    images = torch.randn(1, 3, 8, 8)
    across = net.encoder1(images)
    below = net.encoder2(F.max_pool2d(across, 2))
    joined = torch.cat([across, net.up1(below)], dim=1)
    torch.testing.assert_close(net(images), net.head(net.decoder1(joined)))


def test_the_paper_has_as_many_weights_but_for_what_departs():
    net = unet(2, in_channels=1, widths=(64, 128, 256, 512, 1024))
    kernels = {name: tuple(p.shape) for name, p in net.named_parameters() if p.dim() == 4}
    assert kernels["encoder1.0.weight"] == (64, 1, 3, 3)
    assert kernels["encoder5.3.weight"] == (1024, 1024, 3, 3)
    assert kernels["up4.weight"] == (1024, 512, 2, 2)
    assert kernels["decoder4.0.weight"] == (512, 1024, 3, 3)
    assert kernels["head.weight"] == (2, 64, 1, 1)
    assert len(kernels) == 23  # section 2: "in total the network has 23 convolutional layers"


def test_many_images_at_once_are_the_same_as_one_by_one_under_vmap():
    net = unet(2, widths=SMALL).eval()
    images = torch.randn(3, 2, 3, 8, 8)
    torch.testing.assert_close(torch.func.vmap(net)(images), torch.stack([net(i) for i in images]))


@pytest.mark.parametrize("size", [(18, 16), (16, 10)])
def test_sides_that_cannot_be_halved_are_refused(size):
    message = f"multiples of 4 for 3 levels, got {size[0]} × {size[1]}; pad images with torchvision"
    with pytest.raises(ModelError, match=message):
        unet(2, widths=SMALL)(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("widths", [(), (4, 0)])
def test_levels_without_channels_are_refused(widths):
    with pytest.raises(ModelError, match="unet: widths must be one number ≥ 1 for each level, got"):
        unet(2, widths=widths)
