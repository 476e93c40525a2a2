"""The job of an extraction, settled and checked before anything is written."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentood.device import resolve_device
from latentood.errors import DataError, LatentOODError, ModelError, StoreError, one_line, unknown
from latentood.extraction.members.cells import CellTargets
from latentood.extraction.members.objects import BoxTargets
from latentood.extraction.members.rows import RowTargets
from latentood.extraction.members.targets import Targets
from latentood.extraction.model.batches import moved
from latentood.extraction.model.grid import Grid
from latentood.extraction.model.head import linear_layer
from latentood.extraction.model.readout import BoxReadout, CellLogits
from latentood.extraction.model.weights import hash_tensors, load_model
from latentood.extraction.passes.compiling import compile_parts
from latentood.extraction.passes.members import with_passes
from latentood.extraction.passes.plan import Plan, make_plan
from latentood.extraction.passes.timing import choose_batch_size
from latentood.extraction.run.inputs import Inputs, open_inputs
from latentood.extraction.run.layout import lay_out, origin_of
from latentood.extraction.scores.network import TappedModel
from latentood.extraction.scores.schedule import Schedule
from latentood.latents.facts import Origin
from latentood.pipeline.schema import Pipeline
from latentood.store.root import read_root
from latentood.store.schema import SplitSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A model, its plan, the inputs of every split and the shape of what will be stored."""

    pipeline: Pipeline
    plan: Plan  # how the model is run
    origin: Origin  # identifies the run in the cache
    head: tuple[np.ndarray, np.ndarray] | None  # weight (C, D) and bias (C,), if there is a head
    inputs: dict[str, Inputs]  # by split
    targets: dict[str, Targets]  # by split, where they say more than a label
    specs: dict[str, SplitSpec]  # by split
    scores: Schedule
    device: torch.device  # where the model runs
    batch_size: int  # rows run together

    def precision(self) -> AbstractContextManager[object]:
        """Run the model in the precision of the pipeline."""
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
    """Build the model, open the data, try the model on two rows, and lay out the cache.

    All arguments are as for :func:`latentood.extract`; a batch size once timed for a cache at
    ``store`` stays.

    Raises:
        LatentOODError: Whatever does not fit, before anything is written.
    """
    names = list(splits) if splits else list(pipeline.splits)
    for name in names:
        if name not in pipeline.splits:
            raise unknown("split", name, pipeline.splits)
    where = resolve_device(device or pipeline.extract.device)
    model = load_model(pipeline.model, pipeline.seed)
    pipeline = with_passes(pipeline, model)
    weights = hash_tensors(model.state_dict())
    model.to(memory_format=torch.channels_last).to(where)
    inputs = {name: open_inputs(pipeline, name, limit=limit) for name in names}
    probe = moved(inputs[names[0]].first(2), where)
    with precision(pipeline, where):  # an engine must also work in this precision
        with model_errors(probe):
            plan = make_plan(model, pipeline, probe)
        if pipeline.extract.compile:
            compile_parts(plan.engine, probe)
    scores = Schedule.of(pipeline, TappedModel(plan, probe))
    for name in names:
        roles = ("fit", "val", "id", *(["mixed"] if pipeline.unit == "cell" else []))
        if pipeline.splits[name].role in roles and pipeline.unit != "box":
            inputs[name] = replace(inputs[name], classes=plan.classes)
    targets = {name: one for name in names if (one := _targets(pipeline, plan, inputs[name]))}
    wanted = batch_size or pipeline.extract.batch_size
    if wanted == "auto" and store is not None:
        wanted = timed_before(Path(store)) or wanted
    size = choose_batch_size(wanted, plan.engine, probe[:1])
    return Job(
        pipeline=pipeline,
        plan=plan,
        origin=origin_of(pipeline, weights, size, plan.facts),
        head=_head(plan),
        inputs=inputs,
        targets=targets,
        specs={
            name: lay_out(pipeline, plan, scores, one, targets.get(name))
            for name, one in inputs.items()
        },
        scores=scores,
        device=where,
        batch_size=size,
    )


@contextmanager
def model_errors(probe: Any) -> Iterator[None]:
    """Name an error of the model itself, which the inputs it gets cause most of the time."""
    try:
        yield
    except LatentOODError:
        raise
    except Exception as error:
        log.info("the model stopped", exc_info=True)
        row = probe[0]
        what, remedy = "inputs", "look at the transform, which must give float32 for most models"
        if isinstance(probe, list):
            what, remedy = "a list of images", f"{remedy}, or set unit: image or cell"
        raise ModelError(
            f"the model must take {what} of shape {tuple(row.shape)} and {row.dtype}, got "
            f"{type(error).__name__}: {one_line(error)[:300]}; {remedy}"
        ) from error


def precision(pipeline: Pipeline, device: torch.device) -> AbstractContextManager[object]:
    """Give the context that runs a model in the precision of its pipeline."""
    lower = pipeline.extract.autocast
    if lower is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, lower))


def timed_before(store: Path) -> int | None:
    """Read the batch size of the first run from a cache, where one was chosen by timing.

    Other batches give other last bits, and a resumed cache must be that of one run.
    """
    try:
        size = read_root(store).origin.pipeline["extract"]["batch_size"]
    except (StoreError, KeyError):  # no cache yet, or no usable one
        return None
    return size if isinstance(size, int) else None


def _targets(pipeline: Pipeline, plan: Plan, inputs: Inputs) -> Targets | None:
    """Settle what is kept of targets, cells and boxes of a split."""
    readout, config = plan.engine.readout, pipeline.splits[inputs.name]
    if isinstance(readout, BoxReadout):
        labelled = inputs.has_labels()
        return BoxTargets(inputs.name, config.role, config.ood, pipeline.boxes.max, labelled)
    if not isinstance(readout, CellLogits):
        if config.role != "mixed":
            return None
        return RowTargets(inputs.name, config.ood, inputs.has_labels())
    if (grid := Grid.over(tuple(inputs.shape), pipeline.cells.stride)) != readout.grid:
        raise DataError(
            f"split {inputs.name!r}: all splits must have images of one size for unit: cell, got "
            f"{grid.rows} × {grid.columns} cells beside {readout.grid.rows} × "
            f"{readout.grid.columns}; add torchvision.transforms.v2.Resize to the transform"
        )
    return CellTargets(
        split=inputs.name,
        role=config.role,
        ood=config.ood,
        grid=grid,
        height=inputs.shape[-2],
        width=inputs.shape[-1],
        classes=plan.classes,
        sample=dict(pipeline.cells.sample).get(config.role),
        labelled=inputs.has_labels(),
    )


def _head(plan: Plan) -> tuple[np.ndarray, np.ndarray] | None:
    if plan.head is None:
        log.warning(
            "no linear layer gives the logits; detectors that need the head are not available"
        )
        return None
    weight, bias = linear_layer(plan.engine.model, plan.head)
    return weight.float().cpu().numpy(), bias.float().cpu().numpy()
