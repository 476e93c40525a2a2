"""Parts of the residual networks, and of LeNet."""

import pytest
import torch

from latentood.models import digits_resnet, lenet
from latentood.models.resnet import PaddedSubsample


def test_option_a_subsamples_and_pads_channels_with_zeros():
    maps = torch.randn(2, 4, 6, 6)
    out = PaddedSubsample(4, 8)(maps)
    assert out.shape == (2, 8, 3, 3)
    assert torch.equal(out[:, 2:6], maps[:, :, ::2, ::2])
    assert (out[:, :2] == 0).all()
    assert (out[:, 6:] == 0).all()


def test_the_digits_net_is_stochastic_only_while_training():
    torch.manual_seed(0)
    net = digits_resnet(7)
    images = torch.randn(4, 1, 32, 32)
    assert net(images).shape == (4, 7)
    net.eval()
    assert torch.equal(net(images), net(images))
    net.dropout.train()
    assert not torch.equal(net(images), net(images))


def test_the_digits_net_names_its_layers():
    names = [name for name, _ in digits_resnet().named_children()]
    assert names == ["conv1", "bn1", "layer1", "layer2", "layer3", "dropout", "fc"]


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_lenet_takes_images_of_its_size(channels, size):
    net = lenet(num_classes=5, in_channels=channels, size=size)
    assert net(torch.randn(2, channels, size, size)).shape == (2, 5)


def test_lenet_has_the_weights_of_the_paper_on_28_pixels():
    weights = {name: tuple(p.shape) for name, p in lenet().named_parameters() if p.dim() > 1}
    assert weights == {
        "conv1.weight": (6, 1, 5, 5),
        "conv2.weight": (16, 6, 5, 5),
        "fc1.weight": (120, 400),
        "fc2.weight": (84, 120),
        "fc3.weight": (10, 84),
    }
