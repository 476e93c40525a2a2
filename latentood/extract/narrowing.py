"""Run only what is wanted: a cache that gets one more layer needs no passes for the others."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from latentood.extract.passes import Engine, Noisy, Plain
from latentood.latents import MC_LOGITS, features, mc_entropy, mc_features


def narrowed(engine: Engine, wanted: Container[str]) -> Engine:
    """Take from an engine what no wanted array needs.

    Args:
        engine: Captures every layer of the pipeline.
        wanted: Keys of the arrays to be written.

    Returns:
        An engine that follows only the layers of those arrays, and that runs no passes where
        none of them holds any.
    """

    def followed(layer: str) -> bool:
        return mc_features(layer) in wanted or mc_entropy(layer) in wanted

    taps = [t for t in engine.taps if features(t.layer) in wanted or followed(t.layer)]
    if not isinstance(engine, Noisy):
        return replace(engine, taps=taps)
    varying = frozenset(filter(followed, engine.varying))
    if not varying and MC_LOGITS not in wanted:
        return Plain(engine.model, taps, engine.output)
    return replace(engine, taps=taps, varying=varying)
