"""Activation shaping: reshape the penultimate features, then score the logits they give."""

from latentood.detectors.families.shaping.fixed import ASHB, ASHP, ASHS, LTS, SCALE
from latentood.detectors.families.shaping.learned import DICE, VRA, DICEReAct, RadialShaping, ReAct

DETECTORS = (ReAct, DICE, DICEReAct, ASHP, ASHB, ASHS, SCALE, LTS, VRA, RadialShaping)
