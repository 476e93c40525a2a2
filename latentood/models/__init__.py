"""Small reference networks in plain torch, and what makes other networks of any network."""

from latentood.models.cifar import (
    cifar_resnet18,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
)
from latentood.models.dropblock import DropBlock
from latentood.models.ensemble import Ensemble, ensemble_of
from latentood.models.faster_rcnn import faster_rcnn
from latentood.models.lenet import LeNet, lenet
from latentood.models.resnet import ResNet, digits_resnet
from latentood.models.spectral import spectral_normalised
from latentood.models.unet import UNet, unet

__all__ = [
    "DropBlock",
    "Ensemble",
    "LeNet",
    "ResNet",
    "UNet",
    "cifar_resnet18",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "digits_resnet",
    "ensemble_of",
    "faster_rcnn",
    "lenet",
    "spectral_normalised",
    "unet",
]
