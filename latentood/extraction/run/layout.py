"""The layout of a cache: where its numbers come from, and the arrays of every split."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from latentood.extraction.members.targets import Targets
from latentood.extraction.model.taps import key_of, pass_key
from latentood.extraction.passes.detecting import BOX_FEATURES
from latentood.extraction.passes.plan import Plan
from latentood.extraction.run.inputs import Inputs
from latentood.extraction.scores.schedule import Schedule
from latentood.latents import HASHES, IDS, LABELS, Key
from latentood.latents.facts import Origin, canonical
from latentood.pipeline.schema import Pipeline
from latentood.store.schema import ArraySpec, SplitSpec

_BLOCK_MEMBERS = 1 << 15
"""Members of a block: 32 MiB in float32 with 256 channels."""

_DTYPES = {"xyxy": "float32", "confidence": "float32", "predictions": "int16", "count": "int32"}
"""What is kept of boxes in types of its own."""

_RECORDED = ("latentood", "torch", "torchvision", "numpy", "zarr", "numcodecs")


def origin_of(
    pipeline: Pipeline, weights: str, batch_size: int, plan: Mapping[str, Any] | None = None
) -> Origin:
    """Describe where the numbers of a run come from: pipeline, hash of the weights, versions.

    ``plan`` are the facts of a plan.
    """
    raw = pipeline.model_dump(mode="json")
    if raw["extract"]["batch_size"] == "auto":
        raw["extract"]["batch_size"] = batch_size
    fingerprint = {
        "model": {"target": raw["model"]["target"], "args": raw["model"]["args"]},
        "weights": weights,
        "output": raw["model"]["output"],
        "head": raw["head"],
        **_passes(raw["monte_carlo"]),
        "transform": raw["transform"],
        "seed": raw["seed"],
        "dtype": raw["extract"]["dtype"],
        "keep_bits": raw["extract"]["keep_bits"],
        "autocast": raw["extract"]["autocast"],
    }
    if raw["extract"]["compile"]:  # caches without are older than the setting
        fingerprint["compile"] = True
    if pipeline.unit != "image":
        fingerprint["unit"] = pipeline.unit
        section = {"cell": "cells", "box": "boxes"}[pipeline.unit]
        fingerprint |= {f"{section}.{field}": value for field, value in raw[section].items()}
    fingerprint |= plan or {}
    versions = {name: version(name) for name in _RECORDED} | {"python": platform.python_version()}
    return Origin(pipeline=raw, fingerprint=fingerprint, versions=versions)


def lay_out(
    pipeline: Pipeline,
    plan: Plan,
    scores: Schedule,
    inputs: Inputs,
    targets: Targets | None,
) -> SplitSpec:
    """Lay out the arrays of a split; ``targets`` says what is kept of its cells or boxes."""
    config = pipeline.splits[inputs.name]
    split = config.model_dump(mode="json")
    kept = None if targets is None else targets.kept
    about = {} if targets is None else {"ood": split["ood"]}
    return SplitSpec(
        name=inputs.name,
        role=config.role,
        rows=len(inputs),
        block_rows=min(_block_rows(pipeline, kept), len(inputs)),
        arrays=(
            *_of_rows(pipeline, plan, inputs),
            *([] if targets is None else targets.arrays()),
            *(_of_layer(pipeline, plan, key, tail) for key, tail in _outputs(plan, kept)),
            *_of_passes(pipeline, plan, kept),
            *scores.arrays(inputs.name),
        ),
        data={
            "target": split["target"],
            "transform": split["transform"],
            "fingerprint": inputs.fingerprint(),
            **about,
        },
    )


def _block_rows(pipeline: Pipeline, kept: int | None) -> int:
    """Choose how many images are committed together: fewer where each has many members."""
    extract = pipeline.extract
    if kept is None or "block_rows" in extract.model_fields_set:
        return extract.block_rows
    return max(1, min(extract.block_rows, _BLOCK_MEMBERS // kept))


def _outputs(plan: Plan, kept: int | None) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Name what is kept of the forward without noise, and the shape of one row of it."""
    logits = plan.engine.readout.key
    if plan.classes:
        yield logits, _tail(logits, (plan.classes,), kept)
    for layer, shape in plan.shapes.items():
        key = key_of(layer)
        yield key, _tail(key, shape[1:] if "K" in key.axes else shape, kept)


def _tail(key: Key, shape: tuple[int, ...], kept: int | None) -> tuple[int, ...]:
    return (kept, *shape) if "K" in key.axes and kept is not None else shape


def _passes(monte_carlo: dict[str, Any] | None) -> dict[str, Any]:
    """Give what decides the passes; what is kept of them may grow, as may the layers."""
    fields = ("passes", "insert", "activate")
    return {
        f"monte_carlo.{field}": None if monte_carlo is None else monte_carlo[field]
        for field in fields
    }


def _of_rows(pipeline: Pipeline, plan: Plan, inputs: Inputs) -> list[ArraySpec]:
    """Lay out what every split has."""
    width = max(len(name.encode("utf-8", "surrogateescape")) for name in inputs.ids())
    arrays = [
        ArraySpec(IDS, (width,), "uint8"),
        ArraySpec(HASHES, (), "int64"),
    ]
    labelled = pipeline.unit == "image" and inputs.has_labels()
    return [*arrays, ArraySpec(LABELS, (), "int64")] if labelled else arrays


def _of_passes(pipeline: Pipeline, plan: Plan, kept: int | None) -> list[ArraySpec]:
    if (passes := pipeline.monte_carlo) is None:
        return []
    count, bits = passes.passes, pipeline.extract.keep_bits
    followed = {key: tail for key, tail in _outputs(plan, None) if key in map(key_of, plan.varying)}
    arrays = []
    if "logits" in passes.keep and pipeline.unit != "box":
        key = pass_key("mc.logits", plan.engine.readout.key)
        tail = _tail(key, (count, plan.classes), kept)
        arrays.append(ArraySpec(key, tail, pipeline.extract.dtype, keep_bits=bits))
    for kind, lead in (("mc.features", (count,)), ("mc.entropy", ())):
        if kind.removeprefix("mc.") in passes.keep:
            for layer, shape in followed.items():
                key = pass_key(kind, layer)
                arrays.append(_of_layer(pipeline, plan, key, _tail(key, (*lead, *shape), kept)))
    return arrays


def _of_layer(pipeline: Pipeline, plan: Plan, key: Key, tail: tuple[int, ...]) -> ArraySpec:
    extract = pipeline.extract
    if key.kind == "logits":
        return ArraySpec(key, tail, extract.dtype)
    if key.kind in _DTYPES:
        return ArraySpec(key, tail, _DTYPES[key.kind])
    if key == BOX_FEATURES:
        return ArraySpec(key, tail, extract.dtype, "", extract.keep_bits)
    if key.about.made_by == "head":
        return ArraySpec(key, tail, extract.dtype, canonical(plan.readout))
    layer = Key("features", key.layer, key.unit)
    how = next(tap.reduction.name for tap in plan.engine.taps if key_of(tap.layer) == layer)
    return ArraySpec(key, tail, extract.dtype, how, extract.keep_bits)
