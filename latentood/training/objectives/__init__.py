"""Objectives by name."""

from latentood.plugins import Registry
from latentood.training.objectives.base import END, Batch, Given, Moment, Objective
from latentood.training.objectives.cross_entropy import CrossEntropy, LogitNorm, OutlierExposure
from latentood.training.objectives.dense import OwnLoss, PixelCrossEntropy
from latentood.training.objectives.evidential import Evidential
from latentood.training.objectives.posterior import NaturalPosterior, Posterior
from latentood.training.objectives.prior import PriorNetwork
from latentood.training.objectives.prototypes import Prototypes
from latentood.training.objectives.virtual_outliers import VirtualOutliers

OBJECTIVES: Registry[Objective] = Registry(
    Objective, group="latentood.objectives", noun="objective"
)
OBJECTIVES.add(CrossEntropy, Evidential, PriorNetwork)
OBJECTIVES.add(LogitNorm, OutlierExposure, VirtualOutliers, PixelCrossEntropy, OwnLoss)
OBJECTIVES.add(Posterior, NaturalPosterior, Prototypes)

__all__ = ["END", "OBJECTIVES", "Batch", "Given", "Moment", "Objective"]
