"""Detectors: fit latents into a state, then score latents with it.

Importing this package adds every family of :mod:`latentood.detectors.families` to the
registry. The order of the families is that of lists and tables.
"""

from latentood.detectors.families import (
    density,
    evidential,
    fusion,
    gaussian,
    gram,
    head,
    latent_entropy,
    logits,
    monte_carlo,
    neighbours,
    prototypes,
    score_taps,
    shaping,
    subspace,
)
from latentood.detectors.registry import DETECTORS

_FAMILIES = (
    logits, shaping, gaussian, subspace, neighbours, density, prototypes, head, gram,
    latent_entropy, monte_carlo, evidential, score_taps, fusion,
)  # fmt: skip

DETECTORS.add(*(detector for family in _FAMILIES for detector in family.DETECTORS))
