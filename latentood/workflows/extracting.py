"""Run a model over the splits of a pipeline into a cache, or only say what there is to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentood.device import resolve_device
from latentood.extraction.model.batches import moved, repeated
from latentood.extraction.model.outline import LayerFacts, describe
from latentood.extraction.model.readout import BoxReadout, find_head
from latentood.extraction.model.weights import load_model
from latentood.extraction.passes.modules import stochastic_modules
from latentood.extraction.passes.plan import readout_of
from latentood.extraction.run import estimate as estimating
from latentood.extraction.run.estimate import Estimate
from latentood.extraction.run.inputs import open_inputs
from latentood.extraction.run.job import Job, prepare
from latentood.extraction.run.runner import Progress, Summary, run
from latentood.models.ensemble import networks_of
from latentood.workflows.given import PipelineSource, pipeline_of


def layers(
    pipeline: PipelineSource,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> list[LayerFacts]:
    """Run one row through a model, or the first member of an ensemble, and list its modules.

    Args:
        pipeline: A pipeline, or the file that holds it.
        device: Instead of the pipeline's.
        overrides: ``key=value`` each, for a file.

    Raises:
        LatentOODError: The model or its data cannot be built.
    """
    given = pipeline_of(pipeline, overrides)
    where = resolve_device(device or given.extract.device)
    model = networks_of(load_model(given.model, given.seed))[0].to(where)
    row = open_inputs(given, next(iter(given.splits)), limit=1).first(1)
    # The row twice: an output with another first axis, such as one per window, is not per row.
    batch = moved(repeated(row, 2), where)
    if given.unit == "box":
        boxes = BoxReadout(given.model.output, given.boxes)
        head = find_head(model, batch, boxes, named=given.head)
        batch = boxes.inputs(model, batch)
    else:
        head = find_head(model, batch, readout_of(given, batch), named=given.head)
    return describe(model, batch, head, stochastic_modules(model))


def extract(
    pipeline: PipelineSource,
    store: Path | str,
    *,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Summary:
    """Run a model once over the splits of a pipeline and keep the result in a cache.

    An existing cache of the same run is resumed; layers, scores and splits that it lacks are
    added to it, and only they are computed. SIGINT and SIGTERM stop it after a block.

    Args:
        pipeline: What to run: a pipeline, or the file that holds it.
        store: Folder of the cache.
        splits: Only these.
        limit: Only so many rows of each split, evenly spaced.
        device: Instead of the pipeline's.
        batch_size: Instead of the pipeline's.
        overwrite: Throw an existing cache away first.
        overrides: ``key=value`` each, for a file.
        progress: Called after every batch with (split, rows done, rows in all, bytes written).

    Raises:
        LatentOODError: Anything that does not fit; committed blocks stay.
    """
    job = _job(
        pipeline,
        store,
        splits=splits,
        limit=limit,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        overrides=overrides,
    )
    return run(job, store, overwrite=overwrite, progress=progress)


def estimate(
    pipeline: PipelineSource, store: Path | str, *, overwrite: bool = False, **options: Any
) -> Estimate:
    """Estimate what :func:`extract` with the same arguments will cost; nothing is written.

    Raises:
        LatentOODError: As :func:`extract`.
    """
    job = _job(pipeline, store, overwrite=overwrite, **options)
    return estimating.estimate(job, store, overwrite=overwrite)


def _job(
    pipeline: PipelineSource,
    store: Path | str,
    *,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    **options: Any,
) -> Job:
    given = pipeline_of(pipeline, overrides)
    return prepare(given, store=None if overwrite else store, **options)
