"""The CIFAR networks against published sizes and trained weights."""

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from latentood import models
from latentood.models import cifar_resnet18, cifar_resnet20


@pytest.mark.parametrize(
    ("name", "millions"),
    # He et al. 2016, table 6
    [("20", 0.27), ("32", 0.46), ("44", 0.66), ("56", 0.85)],
)
def test_the_family_has_the_number_of_weights_in_the_paper(name, millions):
    net = getattr(models, f"cifar_resnet{name}")()
    weights = sum(p.numel() for p in net.parameters())
    assert round(weights / 1e6, 2) == millions


@pytest.mark.parametrize("build", [cifar_resnet20, cifar_resnet18])
def test_a_net_gives_one_logit_for_each_class(build):
    assert build(num_classes=7).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_resnet18_is_torchvisions_but_for_the_stem():
    ours, theirs = cifar_resnet18(1000).state_dict(), resnet18().state_dict()
    assert list(ours) == list(theirs)
    different = [key for key in ours if ours[key].shape != theirs[key].shape]
    assert different == ["conv1.weight"]


def test_resnet18_computes_what_torchvisions_computes_behind_the_stem():
    ours, theirs = cifar_resnet18(10).eval(), resnet18(num_classes=10).eval()
    theirs.conv1, theirs.maxpool = (
        torch.nn.Conv2d(3, 64, 3, padding=1, bias=False),
        torch.nn.Identity(),
    )
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


def test_resnet18_with_noise_drops_blocks_of_the_map_and_features_of_the_head():
    net = cifar_resnet18(width=4, dropblock=0.4, dropout=0.3)
    names = [name for name, _ in net.named_children()]
    assert names[-5:] == ["layer3", "dropblock3", "layer4", "dropout", "fc"]
    assert net.fc.in_features == 32
    seen = {}
    net.dropblock3.register_forward_hook(lambda module, args, out: seen.update(map=out))
    net.fc.register_forward_hook(lambda module, args, out: seen.update(features=args[0]))
    net.train()(torch.randn(50, 3, 32, 32))
    assert seen["map"].shape == (50, 16, 8, 8)
    assert 0.2 < float((seen["map"] == 0).all(dim=1).float().mean()) < 0.5
    assert 0.2 < float((seen["features"] == 0).float().mean()) < 0.4


@pytest.mark.heavy
def test_resnet20_classifies_cifar10_with_the_trained_weights(real_data, cifar10):
    net = cifar_resnet20()
    net.load_state_dict(load_file(real_data / "cifar10_resnet20.safetensors"), strict=True)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    images = ImageFolder(cifar10 / "test", transform=transform)
    right = 0
    with torch.inference_mode():
        for batch, labels in DataLoader(images, 100):
            right += int((net.eval()(batch).argmax(dim=1) == labels).sum())
    # 81.0% on all 10,000 JPEG test images; 3 standard errors of 1,000 are 3.7 points
    assert right / len(images) == pytest.approx(0.81, abs=0.037)
