"""Small reference networks in plain torch, which import nothing else of latentood."""

from latentood.models.cifar import (
    cifar_resnet18,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
)
from latentood.models.dropblock import DropBlock
from latentood.models.lenet import LeNet, lenet
from latentood.models.resnet import ResNet, digits_resnet

__all__ = [
    "DropBlock",
    "LeNet",
    "ResNet",
    "cifar_resnet18",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "digits_resnet",
    "lenet",
]
