"""The geometry of the head, the last linear layer."""

from latentood.detectors.families.head.core import CORE
from latentood.detectors.families.head.geometry import FDBD, NCI, FeatureNorm, GradNorm
from latentood.detectors.families.head.nac import NAC
from latentood.detectors.families.head.pnml import PNML
from latentood.detectors.families.head.weiper import WeiPer

DETECTORS = (FDBD, NCI, GradNorm, PNML, NAC, FeatureNorm, WeiPer, CORE)
