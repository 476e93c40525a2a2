"""The principal subspace of features, and what it leaves over."""

from latentood.detectors.families.subspace.ratios import NECO, NuSA
from latentood.detectors.families.subspace.residuals import PCAReconstruction, ResidualNorm
from latentood.detectors.families.subspace.vim import ViM

DETECTORS = (ViM, ResidualNorm, PCAReconstruction, NuSA, NECO)
