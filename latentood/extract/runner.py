"""Run a job: block after block, one computing while the one before it is being written."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from latentood.config import Pipeline
from latentood.errors import DataError
from latentood.extract.job import Job, prepare
from latentood.extract.noise import row_keys
from latentood.extract.passes import Captured
from latentood.latents import LABELS, LOGITS, MC_LOGITS, features, mc_entropy, mc_features
from latentood.stats.entropy import kl_entropy
from latentood.store.schema import IDS, SplitSpec, encode_ids
from latentood.store.writer import SplitWriter, open_writer, require_free

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with (split, rows done, rows in all)."""

_QUEUED_BLOCKS = 2  # finished blocks that may wait for the disk; bounds memory
_NAN_ADVICE = "look at that input, or at the weights"


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        store: Path of the cache.
        rows: split → rows it holds now.
        computed: split → rows computed by this call.
        finished: False if a signal stopped it; the store can then be resumed.
    """

    store: Path
    rows: dict[str, int]
    computed: dict[str, int]
    finished: bool


def extract(
    pipeline: Pipeline,
    store: Path | str,
    *,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Run a model once over the splits of a pipeline and keep the result in a cache.

    An existing cache of the same run is resumed. SIGINT and SIGTERM finish the block in hand.

    Args:
        pipeline: What to run.
        store: Folder of the cache.
        splits: Only these.
        limit: Only so many rows of each split, evenly spaced.
        device: Instead of the pipeline's.
        batch_size: Instead of the pipeline's.
        overwrite: Throw an existing cache away first.
        progress: Called after every batch.

    Raises:
        LatentOODError: Anything that does not fit; committed blocks stay.
    """
    job = prepare(pipeline, splits=splits, limit=limit, device=device, batch_size=batch_size)
    return run(job, store, overwrite=overwrite, progress=progress)


def run(
    job: Job, store: Path | str, *, overwrite: bool = False, progress: Progress | None = None
) -> Summary:
    """Run a prepared job; see :func:`extract`."""
    path = Path(store)
    computed: dict[str, int] = {}
    with (
        open_writer(path, job.header, head=job.head, overwrite=overwrite) as writer,
        stop_signals() as stopped,
    ):
        writers = {name: writer.split(spec) for name, spec in job.specs.items()}
        require_free(path, sum(_missing_bytes(job.specs[n], w) for n, w in writers.items()))
        for name, split_writer in writers.items():
            computed[name] = _run_split(job, name, split_writer, stopped, progress)
        finished = all(not split_writer.pending() for split_writer in writers.values())
    rows = {name: spec.rows for name, spec in job.specs.items()}
    return Summary(path, rows, computed, finished)


def _missing_bytes(spec: SplitSpec, writer: SplitWriter) -> int:
    bounds = [writer.bounds(block) for block in writer.pending()]
    return sum(stop - start for start, stop in bounds) * spec.nbytes


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event; a second one acts as it did before."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_split(
    job: Job, name: str, writer: SplitWriter, stopped: threading.Event, progress: Progress | None
) -> int:
    """Compute and write the missing blocks of one split; returns the rows computed."""
    pending = [writer.bounds(block) for block in writer.pending()]
    size = job.specs[name].rows
    missing = sum(stop - start for start, stop in pending)
    batches = job.rows[name].batches(
        [rows for bounds in pending for rows in _batch_rows(*bounds, job.batch_size)],
        workers=job.pipeline.extract.workers,
        pin=job.device.type == "cuda",
    )
    done, queue = 0, deque[Future[None]]()

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(name, size - missing + done, size)

    tell(0)
    with ThreadPoolExecutor(1, thread_name_prefix="latentood-writer") as pool:
        for block, bounds in zip(writer.pending(), pending, strict=True):
            if stopped.is_set():
                break
            arrays = compute_block(job, name, bounds, batches, tell)
            queue.append(pool.submit(writer.write, block, arrays))
            while len(queue) > _QUEUED_BLOCKS:
                queue.popleft().result()
        for write in queue:
            write.result()
    return done


def _batch_rows(start: int, stop: int, size: int) -> list[list[int]]:
    """Cut a block into batches, so that a resumed block sees the batches of the first run."""
    return [list(range(at, min(at + size, stop))) for at in range(start, stop, size)]


def compute_block(
    job: Job,
    name: str,
    bounds: tuple[int, int],
    batches: Iterator[tuple[Tensor, Tensor]],
    tell: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Compute all arrays of one block: a function of (pipeline, split, block) alone.

    Args:
        job: What to run.
        name: Split.
        bounds: First row and the one after the last.
        batches: Yields this block's batches next.
        tell: Called with the rows of each finished batch.

    Returns:
        key → (rows of the block, …).

    Raises:
        DataError: The logits of a row are not finite.
    """
    spec, (start, stop) = job.specs[name], bounds
    block = {a.key: np.empty((stop - start, *a.tail), dtype=a.dtype) for a in spec.arrays}
    id_width = block[IDS].shape[1]
    block[IDS][:] = encode_ids([job.rows[name].id_of(r) for r in range(start, stop)], id_width)
    at = start
    while at < stop:
        inputs, labels = next(batches)
        rows = torch.arange(at, at + len(inputs), device=job.device)
        with torch.no_grad():
            inputs = inputs.to(job.device, non_blocking=True)
            captured = job.plan.engine.run(inputs, row_keys(job.seed(name), rows))
            outputs = _outputs(captured, [a.key for a in spec.arrays])
        if not bool(torch.isfinite(captured.logits).all()):
            row = at + int((~torch.isfinite(captured.logits)).any(dim=1).nonzero()[0])
            raise DataError(
                f"split {name!r}: the logits of row {row} ({job.rows[name].id_of(row)}) are "
                f"not finite; {_NAN_ADVICE}"
            )
        for key, value in outputs.items():
            block[key][at - start : at - start + len(inputs)] = value.cpu().numpy()
        if LABELS in block:
            block[LABELS][at - start : at - start + len(inputs)] = labels.numpy()
        at += len(inputs)
        tell(len(inputs))
    return block


def _outputs(captured: Captured, wanted: Sequence[str]) -> dict[str, Tensor]:
    """Name what a batch gave by the keys of the cache, entropies computed on the way."""
    found = {LOGITS: captured.logits}
    found |= {features(layer): values for layer, values in captured.features.items()}
    if captured.mc_logits is not None and MC_LOGITS in wanted:
        found[MC_LOGITS] = captured.mc_logits
    for layer, values in captured.mc_features.items():
        if mc_features(layer) in wanted:
            found[mc_features(layer)] = values
        if mc_entropy(layer) in wanted:
            found[mc_entropy(layer)] = kl_entropy(values.flatten(2)).reshape(values[:, 0].shape)
    return found
