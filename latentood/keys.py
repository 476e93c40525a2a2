"""The names of arrays in latents and caches ("keys"), and what to do when one is missing.

======================  ===========  =====================================================
key                     shape        what
======================  ===========  =====================================================
``logits``              (N, C)       output of the deterministic forward pass
``labels``              (N,)         true classes, int64
``features/<layer>``    (N, D)       pooled activations, dropout off
``mc.logits``           (N, T, C)    logits of T stochastic passes
``mc.features/<layer>`` (N, T, D)    pooled activations of T stochastic passes
``mc.entropy/<layer>``  (N, D)       entropy of each dimension over the T passes, nats
``scores/<name>``       (N,)         a score that needs the model, computed during extraction
``head``                             the last linear layer: weight (C, D) and bias (C,)
======================  ===========  =====================================================
"""

from __future__ import annotations

from collections.abc import Collection

from latentood.errors import MissingInput, suggest

LOGITS = "logits"
LABELS = "labels"
HEAD = "head"
MC_LOGITS = "mc.logits"
PENULTIMATE = "penultimate"


def features(layer: str) -> str:
    """Name the key of a layer's features; ``mc.entropy/<layer>`` is taken as it is."""
    return layer if layer.startswith("mc.entropy/") else f"features/{layer}"


def mc_features(layer: str) -> str:
    """Name the key of a layer's features over T passes."""
    return f"mc.features/{layer}"


def mc_entropy(layer: str) -> str:
    """Name the key of a layer's entropies over T passes."""
    return layer if layer.startswith("mc.entropy/") else f"mc.entropy/{layer}"


def score_column(name: str) -> str:
    """Name the key of a score that was computed during extraction."""
    return f"scores/{name}"


def missing(key: str, known: Collection[str], *, where: str, who: str = "") -> MissingInput:
    """Build the error for an array that is not there, with what to do so that it is.

    Args:
        key: What is missing.
        known: The keys that are there.
        where: Name of the rows.
        who: The detector that needs it.
    """
    lead = f"{who}: needs {key!r}, but" if who else f"no {key!r}:"
    listed = ", ".join(repr(name) for name in known)
    return MissingInput(f"{lead} {where} has {listed}; {_advice(key, known)}")


def _advice(key: str, known: Collection[str]) -> str:
    """Say what to do so that a missing key is there."""
    kind, _, layer = key.partition("/")
    match kind:
        case "head":
            return "re-run extract with head: <layer name>, or give head=(W, b)"
        case "labels":
            return "use a split whose data set has labels, or give labels="
        case "mc.logits" | "mc.entropy" | "mc.features":
            kept = {"mc.logits": "logits", "mc.entropy": "entropy", "mc.features": "features"}[kind]
            advice = f"re-run extract with monte_carlo: {{passes: 16, keep: [{kept}]}}"
            alike = [name for name in known if name.startswith(f"{kind}/")]
            return f"{suggest(key, alike)} or {advice}" if alike else advice
        case "features":
            hint = suggest(key, [k for k in known if k.startswith("features/")])
            return f"{hint} or add {layer!r} to layers: and re-run extract"
        case "scores":
            return f"add scores: [{layer}] to the pipeline and re-run extract"
    return suggest(key, known)
