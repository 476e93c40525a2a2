"""The geometry of the head, the last linear layer."""

from latentood.detectors.families.head.geometry import FDBD, NCI, FeatureNorm, GradNorm
from latentood.detectors.families.head.nac import NAC
from latentood.detectors.families.head.pnml import PNML

DETECTORS = (FDBD, NCI, GradNorm, PNML, NAC, FeatureNorm)
