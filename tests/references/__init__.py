"""Slow formulas by family; importing this registers them all in ``tests.references.registry``."""

from tests.references import (
    columns,
    density,
    discriminant,
    evidential,
    fusion,
    gaussian,
    gram,
    guidance,
    head,
    latent_entropy,
    logits,
    monte_carlo,
    one_class,
    shaping,
    subspace,
)

__all__ = [
    "columns",
    "density",
    "discriminant",
    "evidential",
    "fusion",
    "gaussian",
    "gram",
    "guidance",
    "head",
    "latent_entropy",
    "logits",
    "monte_carlo",
    "one_class",
    "shaping",
    "subspace",
]
