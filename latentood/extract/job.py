"""What an extraction is about to do, settled and checked before anything is written."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latentood.config import Pipeline
from latentood.errors import ConfigError, ModelError, StoreError, unknown
from latentood.extract.batching import choose_batch_size
from latentood.extract.compiling import compile_parts
from latentood.extract.loading import load_model
from latentood.extract.plan import Plan, make_plan
from latentood.extract.rows import SplitRows, open_rows
from latentood.extract.scores.network import Network
from latentood.extract.scores.plan import Scores
from latentood.latents import LABELS, LOGITS, MC_LOGITS, features, mc_entropy, mc_features
from latentood.store.fingerprint import hash_tensors
from latentood.store.root import read_root
from latentood.store.schema import IDS, ArraySpec, Header, SplitSpec

log = logging.getLogger(__name__)

_RECORDED = ("latentood", "torch", "torchvision", "numpy", "zarr", "numcodecs")


@dataclass(frozen=True)
class Job:
    """A model, its plan, the rows of every split and the shape of what will be stored.

    Attributes:
        pipeline: What was asked for.
        plan: How the model is run.
        header: What identifies the run in the cache.
        head: Weight (C, D) and bias (C,) of the head, if there is one.
        rows: split → its data.
        specs: split → its arrays.
        scores: Score taps, ready to be prepared.
        device: Where the model runs.
        batch_size: Rows run together.
    """

    pipeline: Pipeline
    plan: Plan
    header: Header
    head: tuple[np.ndarray, np.ndarray] | None
    rows: dict[str, SplitRows]
    specs: dict[str, SplitSpec]
    scores: Scores
    device: torch.device
    batch_size: int

    def precision(self) -> AbstractContextManager[object]:
        """Run the model in the precision that the pipeline asks for."""
        return precision(self.pipeline, self.device)

    def seed(self, split: str) -> int:
        """Name the random streams of a split by 64 bits."""
        digest = hashlib.sha256(f"{self.pipeline.seed}/{split}".encode()).digest()
        return int.from_bytes(digest[:8], "little", signed=True)


def prepare(
    pipeline: Pipeline,
    *,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    store: Path | str | None = None,
) -> Job:
    """Build the model, try it on two rows, open the data, and lay out the cache.

    Args:
        pipeline: What to run.
        splits: Only these.
        limit: Only so many rows of each split, evenly spaced.
        device: Instead of the pipeline's.
        batch_size: Instead of the pipeline's.
        store: Path of a cache that may be there: a batch size once timed for it stays.

    Raises:
        LatentOODError: Whatever does not fit, before anything is written.
    """
    names = list(splits) if splits else list(pipeline.splits)
    for name in names:
        if name not in pipeline.splits:
            raise unknown("split", name, pipeline.splits)
    where = resolve_device(device or pipeline.extract.device)
    model = load_model(pipeline.model, pipeline.seed)
    weights = hash_tensors(model.state_dict())
    model.to(memory_format=torch.channels_last).to(where)
    first = open_rows(pipeline, names[0], limit=limit, classes=None)
    probe = torch.stack([first[row][0] for row in range(min(2, len(first)))]).to(where)
    with precision(pipeline, where):  # an engine must also work in this precision
        plan = make_plan(model, pipeline, probe)
        if pipeline.extract.compile:
            compile_parts(plan.engine, probe)
    scores = Scores.of(pipeline, Network(plan, probe))
    rows = {n: open_rows(pipeline, n, limit=limit, classes=plan.classes) for n in names}
    wanted = batch_size or pipeline.extract.batch_size
    if wanted == "auto" and store is not None:
        wanted = timed_before(Path(store)) or wanted
    size = choose_batch_size(wanted, plan.engine, probe[:1])
    return Job(
        pipeline=pipeline,
        plan=plan,
        header=_header(pipeline, weights, size),
        head=_head(model, plan),
        rows=rows,
        specs={name: _lay_out(pipeline, plan, scores, data) for name, data in rows.items()},
        scores=scores,
        device=where,
        batch_size=size,
    )


def precision(pipeline: Pipeline, device: torch.device) -> AbstractContextManager[object]:
    """Give the context in which a pipeline wants its model to run."""
    lower = pipeline.extract.autocast
    if lower is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, lower))


def resolve_device(name: str) -> torch.device:
    """Find the device to run on; ``auto`` is the first GPU, else the CPU.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r}: cannot be used here ({reason}); use cpu or auto"
        ) from None
    return device


def timed_before(store: Path) -> int | None:
    """Find the batch size that a cache was begun with, where one was chosen by timing.

    Other batches give other last bits, and a resumed cache must be that of one run.
    """
    try:
        size = read_root(store).header.pipeline["extract"]["batch_size"]
    except (StoreError, KeyError):  # nothing there yet, or nothing to go on with
        return None
    return size if isinstance(size, int) else None


def _header(pipeline: Pipeline, weights: str, batch_size: int) -> Header:
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
    versions = {name: version(name) for name in _RECORDED} | {"python": platform.python_version()}
    return Header(pipeline=raw, fingerprint=fingerprint, versions=versions)


def _passes(monte_carlo: dict[str, Any] | None) -> dict[str, Any]:
    """Give what decides the passes; what is kept of them may grow, as may the layers."""
    fields = ("passes", "insert", "activate")
    return {
        f"monte_carlo.{field}": None if monte_carlo is None else monte_carlo[field]
        for field in fields
    }


def _head(model: nn.Module, plan: Plan) -> tuple[np.ndarray, np.ndarray] | None:
    if plan.head is None:
        log.warning(
            "no linear layer gives the logits; detectors that need the head are not available"
        )
        return None
    layer = model.get_submodule(plan.head)
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"head {plan.head!r}: must be a linear layer, got {type(layer).__name__}")
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return layer.weight.float().cpu().numpy(), bias.float().cpu().numpy()


def _lay_out(pipeline: Pipeline, plan: Plan, scores: Scores, rows: SplitRows) -> SplitSpec:
    """Lay out the arrays of a split."""
    dtype, bits = pipeline.extract.dtype, pipeline.extract.keep_bits
    ids = rows.ids()
    width = max(len(name.encode("utf-8", "surrogateescape")) for name in ids)
    arrays = [ArraySpec(IDS, (width,), "uint8"), ArraySpec(LOGITS, (plan.classes,), dtype)]
    if rows.has_labels():
        arrays.append(ArraySpec(LABELS, (), "int64"))
    how = {tap.layer: tap.reduction.name for tap in plan.engine.taps}

    def of_layer(key: str, layer: str, tail: tuple[int, ...]) -> ArraySpec:
        return ArraySpec(key, tail, dtype, how[layer], bits)

    arrays += [of_layer(features(layer), layer, tail) for layer, tail in plan.shapes.items()]
    if (passes := pipeline.monte_carlo) is not None:
        followed = {layer: plan.shapes[layer] for layer in plan.varying}
        if "logits" in passes.keep:
            arrays.append(
                ArraySpec(MC_LOGITS, (passes.passes, plan.classes), dtype, keep_bits=bits)
            )
        if "features" in passes.keep:
            arrays += [
                of_layer(mc_features(n), n, (passes.passes, *tail)) for n, tail in followed.items()
            ]
        if "entropy" in passes.keep:
            arrays += [of_layer(mc_entropy(n), n, tail) for n, tail in followed.items()]
    arrays += scores.arrays(rows.name)
    config = pipeline.splits[rows.name]
    return SplitSpec(
        name=rows.name,
        role=config.role,
        rows=len(rows),
        block_rows=min(pipeline.extract.block_rows, len(rows)),
        arrays=tuple(arrays),
        data=_provenance(rows, config.model_dump(mode="json")),
    )


def _provenance(rows: SplitRows, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "target": config["target"],
        "transform": config["transform"],
        "fingerprint": rows.fingerprint(),
    }
