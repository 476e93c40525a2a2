"""Densities and borders of the fit rows themselves."""

from latentood.detectors.families.density.kernel import KDE, LOF
from latentood.detectors.families.density.one_class import IsolationForest, OneClassSVM

DETECTORS = (KDE, LOF, IsolationForest, OneClassSVM)
