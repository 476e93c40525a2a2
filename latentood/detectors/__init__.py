"""Latents become a state, a state and latents become scores.

Importing this package makes every family of :mod:`latentood.detectors.families` known to the
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

DETECTORS.add(
    *logits.DETECTORS,
    *shaping.DETECTORS,
    *gaussian.DETECTORS,
    *subspace.DETECTORS,
    *neighbours.DETECTORS,
    *density.DETECTORS,
    *prototypes.DETECTORS,
    *head.DETECTORS,
    *gram.DETECTORS,
    *latent_entropy.DETECTORS,
    *monte_carlo.DETECTORS,
    *evidential.DETECTORS,
    *score_taps.DETECTORS,
    *fusion.DETECTORS,
)
