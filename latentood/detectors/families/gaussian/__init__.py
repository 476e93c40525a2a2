"""Distances and densities under Gaussians fitted to features."""

from latentood.detectors.families.gaussian.class_densities import DDU
from latentood.detectors.families.gaussian.distances import SSD, Mahalanobis, RelativeMahalanobis
from latentood.detectors.families.gaussian.layers import MahalanobisLayers
from latentood.detectors.families.gaussian.mixture import GMM
from latentood.detectors.families.gaussian.radial import RadialMahalanobis

DETECTORS = (Mahalanobis, RelativeMahalanobis, SSD, MahalanobisLayers, DDU, GMM, RadialMahalanobis)
