"""Scores of the logits."""

from latentood.detectors.families.logits.calibration import KLMatching, TemperatureScaling
from latentood.detectors.families.logits.openmax import OpenMax
from latentood.detectors.families.logits.scores import (
    GEN,
    MCM,
    Energy,
    Entropy,
    MaxLogit,
    MaxSoftmax,
    OdinEps0,
    WeightedEnergy,
)

DETECTORS = (
    MaxSoftmax, MaxLogit, Energy, Entropy, TemperatureScaling, KLMatching, GEN, OpenMax,
    WeightedEnergy, OdinEps0, MCM,
)  # fmt: skip
