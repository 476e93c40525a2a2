"""The layout of a cache: where its numbers come from, and the arrays of every split."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from latentood.extraction.passes.plan import Plan
from latentood.extraction.run.inputs import Inputs
from latentood.extraction.scores.schedule import Schedule
from latentood.latents import HASHES, IDS, LABELS, LOGITS, MC_LOGITS, Key
from latentood.latents.facts import Origin, canonical
from latentood.pipeline.schema import Pipeline
from latentood.store.schema import ArraySpec, SplitSpec

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
    fingerprint |= plan or {}
    versions = {name: version(name) for name in _RECORDED} | {"python": platform.python_version()}
    return Origin(pipeline=raw, fingerprint=fingerprint, versions=versions)


def lay_out(pipeline: Pipeline, plan: Plan, scores: Schedule, inputs: Inputs) -> SplitSpec:
    """Lay out the arrays of a split."""
    config = pipeline.splits[inputs.name]
    split = config.model_dump(mode="json")
    return SplitSpec(
        name=inputs.name,
        role=config.role,
        rows=len(inputs),
        block_rows=min(pipeline.extract.block_rows, len(inputs)),
        arrays=(
            *_of_rows(pipeline, plan, inputs),
            *(_of_layer(pipeline, plan, key_of(name), tail) for name, tail in plan.shapes.items()),
            *_of_passes(pipeline, plan),
            *scores.arrays(inputs.name),
        ),
        data={
            "target": split["target"],
            "transform": split["transform"],
            "fingerprint": inputs.fingerprint(),
        },
    )


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
        ArraySpec(LOGITS, (plan.classes,), pipeline.extract.dtype),
    ]
    return [*arrays, ArraySpec(LABELS, (), "int64")] if inputs.has_labels() else arrays


def _of_passes(pipeline: Pipeline, plan: Plan) -> list[ArraySpec]:
    if (passes := pipeline.monte_carlo) is None:
        return []
    count, bits = passes.passes, pipeline.extract.keep_bits
    followed = {layer: plan.shapes[layer] for layer in plan.varying}
    arrays = []
    if "logits" in passes.keep:
        tail = (count, plan.classes)
        arrays.append(ArraySpec(MC_LOGITS, tail, pipeline.extract.dtype, keep_bits=bits))
    if "features" in passes.keep:
        arrays += [
            _of_layer(pipeline, plan, Key("mc.features", layer), (count, *shape))
            for layer, shape in followed.items()
        ]
    if "entropy" in passes.keep:
        arrays += [
            _of_layer(pipeline, plan, Key("mc.entropy", layer), shape)
            for layer, shape in followed.items()
        ]
    return arrays


def _of_layer(pipeline: Pipeline, plan: Plan, key: Key, tail: tuple[int, ...]) -> ArraySpec:
    extract = pipeline.extract
    if key.about.made_by == "head":
        return ArraySpec(key, tail, extract.dtype, canonical(plan.readout))
    how = next(tap.reduction.name for tap in plan.engine.taps if tap.layer == key.layer)
    return ArraySpec(key, tail, extract.dtype, how, extract.keep_bits)


def key_of(layer: str) -> Key:
    """Name the array of a layer's output; what a head gives is a layer named by its key."""
    return layer if isinstance(layer, Key) else Key("features", layer)
