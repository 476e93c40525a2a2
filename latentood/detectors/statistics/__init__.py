"""Every statistic that detectors compute of the fit rows; equal ones are computed once.

Each statistic is a frozen dataclass: any number of them are computed from one streaming read
(``Latents.gather``) and remembered (``Latents.compute``). The mathematics is in
:mod:`latentood.stats`.
"""

from latentood.detectors.statistics.activation import StateCounts
from latentood.detectors.statistics.bank import Bank, ClassBank, Sample
from latentood.detectors.statistics.bounds import MeanDeviation, PredictedBounds
from latentood.detectors.statistics.classes import (
    ClassMeans,
    ClassMoments,
    ClassScatters,
    CorrectClassMeans,
    CorrectTails,
    PredictedPosteriors,
)
from latentood.detectors.statistics.moments import (
    DistanceMoments,
    Lowest,
    Mean,
    Moments,
    PassVariance,
    UnitMoments,
    UnitScatter,
)
from latentood.detectors.statistics.percentiles import Percentiles
from latentood.detectors.statistics.projections import MeanHistograms, Projections
from latentood.detectors.statistics.radial import RadialMoments, RadialPower
from latentood.detectors.statistics.residuals import LogitSpread, ResidualSums

__all__ = [
    "Bank", "ClassBank", "ClassMeans", "ClassMoments", "ClassScatters", "CorrectClassMeans",
    "CorrectTails", "DistanceMoments", "LogitSpread", "Lowest", "Mean", "MeanDeviation",
    "MeanHistograms", "Moments", "PassVariance", "Percentiles", "PredictedBounds",
    "PredictedPosteriors", "Projections", "RadialMoments", "RadialPower", "ResidualSums", "Sample",
    "StateCounts", "UnitMoments", "UnitScatter",
]  # fmt: skip
