"""Detectors fitted on one cache and scored on another: what must agree, and what may differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted
from latentood.errors import FingerprintMismatch
from latentood.latents import Key
from latentood.latents.splits import Splits

_DECISIVE = ("weights", "model", "output", "head", "transform")
"""What makes the arrays of a cache mean something else."""

_HARMLESS = ("seed", "dtype", "keep_bits", "autocast", "compile")
"""What changes digits, or only arrays that few detectors read."""


def with_origin(fitted: Fitted, splits: Splits) -> Fitted:
    """Record the cache a detector was fitted on, for its file."""
    header = splits.header
    facts = splits.splits.get(fitted.provenance["fit"]["split"])
    cache = {
        "digest": header.digest,
        "fingerprint": dict(header.fingerprint),
        "data": {} if facts is None else dict(facts.data),
        "made": {} if facts is None else dict(facts.made),
    }
    return replace(fitted, provenance={**fitted.provenance, "cache": cache})


def admit(fitted: Fitted, splits: Splits, *, any_cache: bool = False) -> Fitted:
    """Check that a detector may score a cache it was not fitted on.

    Every difference that is not decisive is a sentence in the ``warnings`` of its provenance;
    with ``any_cache``, decisive ones are, too.

    Raises:
        FingerprintMismatch: Weights, model, head, transform, or the layers, passes or reductions
            that it reads are not the same; names the field.
    """
    origin = fitted.provenance.get("cache")
    if origin is None:
        warnings = list(_without_record(fitted, splits))
    else:
        name = fitted.detector.name
        refused = list(_decisive(fitted.detector, origin, splits))
        if refused and not any_cache:
            field, there, here = refused[0]
            raise FingerprintMismatch(
                f"{name}: must score a cache of the run it was fitted on, but {field} is "
                f"{_short(there)} there and {_short(here)} here; fit it on this cache, or add "
                "--any-cache"
            )
        warnings = [f"{field} differs between the fit and this cache" for field, *_ in refused]
        warnings += _harmless(origin, splits)
    return replace(fitted, provenance={**fitted.provenance, "warnings": warnings})


def _decisive(
    detector: Detector, origin: Mapping[str, Any], splits: Splits
) -> Iterator[tuple[str, Any, Any]]:
    keys = [Key.parse(key) for key in detector.needs().score]
    there, here = origin["fingerprint"], splits.header.fingerprint
    for field in _DECISIVE:
        if there.get(field) != here.get(field):
            yield field, there.get(field), here.get(field)
    for key in keys:
        old = origin.get("made", {}).get(key)
        new = {facts.made[key] for facts in splits.splits.values() if key in facts.made}
        what = {"reduction": f"layers: the reduction of {key.layer}", "head": f"the head of {key}"}
        made_by = key.about.made_by
        if made_by in what and old is not None and (other := new - {old}):
            yield what[made_by], old, min(other, key=str)
    if any(key.of_passes for key in keys) and _passes(there) != _passes(here):
        yield "monte_carlo", _passes(there), _passes(here)


def _harmless(origin: Mapping[str, Any], splits: Splits) -> Iterator[str]:
    there, here = origin["fingerprint"], splits.header.fingerprint
    pairs = {field: (there.get(field), here.get(field)) for field in _HARMLESS}
    pairs["monte_carlo"] = (_passes(there), _passes(here))
    for field, (old, new) in pairs.items():
        if old != new:
            yield f"{field} is {_short(old)} in the fit and {_short(new)} here"
    data = [facts.data for facts in splits.splits.values() if facts.role == "fit"]
    if data and data[0].get("fingerprint") != origin["data"].get("fingerprint"):
        yield "the fit split of this cache holds other data than the detector was fitted on"


def _without_record(fitted: Fitted, splits: Splits) -> Iterator[str]:
    """Judge by the identity of the fit rows, which begins with the digest of their cache."""
    if fitted.origin.partition(":")[0] != splits.header.digest:
        yield "the file does not say which cache the detector was fitted on"


def _passes(fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gather what decides the stochastic passes; ``None`` where there are none."""
    lead = "monte_carlo."
    passes = {
        field.removeprefix(lead): value
        for field, value in fingerprint.items()
        if field.startswith(lead) and value is not None
    }
    return passes or None


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else repr(value[:16])
    return text if len(text) <= 60 else text[:59] + "…"
