"""Slow formulas by family; importing this registers them all in ``tests.references.registry``."""

from tests.references import (
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
    one_class,
    prototypes,
    shaping,
    subspace,
)

__all__ = [
    "density",
    "evidential",
    "fusion",
    "gaussian",
    "gram",
    "head",
    "latent_entropy",
    "logits",
    "monte_carlo",
    "neighbours",
    "one_class",
    "prototypes",
    "shaping",
    "subspace",
]
