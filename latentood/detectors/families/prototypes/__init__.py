"""One stored pattern per class."""

from latentood.detectors.families.prototypes.discriminant import WDiscOOD
from latentood.detectors.families.prototypes.learnt import PrototypeDistance
from latentood.detectors.families.prototypes.patterns import SHE, Cosine
from latentood.detectors.families.prototypes.texts import NegLabel

DETECTORS = (SHE, Cosine, WDiscOOD, PrototypeDistance, NegLabel)
