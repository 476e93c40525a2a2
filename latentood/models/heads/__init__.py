"""Heads with an uncertainty of their own, by the names that files of weights have them under."""

from collections.abc import Mapping

from latentood.models.heads.attached import (
    ATTACHED,
    PREFIX,
    attach,
    build_head,
    describe,
    tensors_of,
)
from latentood.models.heads.base import KINDS, Prediction, SoftmaxHead, UncertaintyHead
from latentood.models.heads.energy import WeightedEnergyHead
from latentood.models.heads.evidential import EvidentialHead
from latentood.models.heads.on_features import (
    FeatureClassifier,
    FeatureHead,
    build_feature_head,
)
from latentood.models.heads.posterior import NaturalPosteriorHead, PosteriorHead
from latentood.models.heads.prior import PriorHead
from latentood.models.heads.prototypes import PrototypeHead

HEADS: Mapping[str, type[UncertaintyHead]] = {
    cls.name: cls
    for cls in (
        SoftmaxHead, EvidentialHead, PriorHead, PosteriorHead, NaturalPosteriorHead, PrototypeHead,
        WeightedEnergyHead,
    )
}  # fmt: skip

__all__ = [
    "ATTACHED",
    "HEADS",
    "KINDS",
    "PREFIX",
    "EvidentialHead",
    "FeatureClassifier",
    "FeatureHead",
    "NaturalPosteriorHead",
    "PosteriorHead",
    "Prediction",
    "PriorHead",
    "PrototypeHead",
    "SoftmaxHead",
    "UncertaintyHead",
    "WeightedEnergyHead",
    "attach",
    "build_feature_head",
    "build_head",
    "describe",
    "tensors_of",
]
