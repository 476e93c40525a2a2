"""Densities and borders of the fit rows themselves."""

from latentood.detectors.families.density.kernel import KDE, LOF
from latentood.detectors.families.density.one_class import IsolationForest, OneClassSVM
from latentood.detectors.families.density.posterior import PosteriorDensity

DETECTORS = (KDE, LOF, IsolationForest, OneClassSVM, PosteriorDensity)
