"""Run a job: block after block, one computing while the one before it is being written."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from latentood.extraction.run.blocks import compute_block
from latentood.extraction.run.job import Job
from latentood.extraction.scores.schedule import Preparation
from latentood.store.disk import require_free
from latentood.store.writer import SplitWriter, open_writer

Progress = Callable[[str, int, int, int], None]
"""Called with (split, rows done, rows in all, bytes written now), first of all for every split."""

_QUEUED_BLOCKS = 2  # finished blocks that may wait for the disk; bounds memory


@dataclass(frozen=True)
class Summary:
    """The result of an extraction."""

    store: Path  # of the cache
    rows: dict[str, int]  # split → rows it holds now
    computed: dict[str, int]  # split → rows computed by this call, once for each array group
    written: dict[str, int]  # split → bytes that this call put on the disk
    batch_size: int  # rows run together, as in the pipeline or chosen by timing
    finished: bool  # False if a signal stopped it; the store can then be resumed


def run(
    job: Job, store: Path | str, *, overwrite: bool = False, progress: Progress | None = None
) -> Summary:
    """Compute what a cache lacks of a job, and write it.

    Args:
        job: What to run.
        store: Folder of the cache.
        overwrite: Delete an existing cache first.
        progress: Called after every batch; see :data:`Progress`.

    Raises:
        LatentOODError: Anything that does not fit; committed blocks stay.
    """
    path = Path(store)
    job.scores.require_fit(job.specs, path, overwrite=overwrite)
    taps = Preparation(job.scores, path)
    with (
        open_writer(path, job.origin, head=job.head, overwrite=overwrite) as writer,
        stop_signals() as stopped,
    ):
        splits = writer.splits(job.specs.values())
        groups = [group for writers in splits.values() for group in writers]
        require_free(path, sum(_missing_rows(group) * group.spec.nbytes for group in groups))
        waiting = {
            name: [w for w in splits[name] if w.pending()] or splits[name][:1]
            for name in job.scores.order(splits)
        }
        tallies = {name: _Tally(writers[0], progress) for name, writers in waiting.items()}
        for name, writers in waiting.items():
            for group in writers:
                _run_group(job, group, taps, stopped, tallies[name])
        finished = not any(group.pending() for group in groups)
    rows = {name: spec.rows for name, spec in job.specs.items()}
    computed = {name: tally.computed for name, tally in tallies.items()}
    written = {name: tally.written for name, tally in tallies.items()}
    return Summary(path, rows, computed, written, job.batch_size, finished)


class _Tally:
    """Rows computed and bytes written of a split by this call, reported as they grow."""

    def __init__(self, first: SplitWriter, progress: Progress | None) -> None:
        self.computed = self.written = 0
        self._name, self._rows = first.spec.name, first.spec.rows
        self._progress = progress
        self.begin(first)

    def begin(self, writer: SplitWriter) -> None:
        """Begin with an array group, which some of the rows may have already."""
        self._done = self._rows - _missing_rows(writer)
        self.add(0)

    def add(self, rows: int) -> None:
        """Count rows of a finished batch."""
        self._done += rows
        self.computed += rows
        if self._progress is not None:
            self._progress(self._name, self._done, self._rows, self.written)


def _missing(writer: SplitWriter) -> list[tuple[int, int]]:
    return [writer.bounds(block) for block in writer.pending()]


def _missing_rows(writer: SplitWriter) -> int:
    return sum(stop - start for start, stop in _missing(writer))


def _run_group(
    job: Job,
    writer: SplitWriter,
    taps: Preparation,
    stopped: threading.Event,
    tally: _Tally,
) -> None:
    """Compute and write the missing blocks of an array group."""
    pending = _missing(writer)
    tally.begin(writer)
    if not pending or stopped.is_set():
        return
    batches = job.inputs[writer.spec.name].batches(
        [rows for bounds in pending for rows in _batch_rows(*bounds, job.batch_size)],
        workers=job.pipeline.extract.workers,
        pin=job.device.type == "cuda",
    )
    queue = deque[Future[int]]()
    with job.precision():
        scorer = taps.scorer(writer.spec)
    with ThreadPoolExecutor(1, thread_name_prefix="latentood-writer") as pool:
        for block, bounds in zip(writer.pending(), pending, strict=True):
            if stopped.is_set():
                break
            arrays = compute_block(job, writer.spec, bounds, batches, tally.add, scorer)
            queue.append(pool.submit(writer.write, block, arrays))
            while len(queue) > _QUEUED_BLOCKS:
                tally.written += queue.popleft().result()
        for write in queue:
            tally.written += write.result()
    tally.add(0)


def _batch_rows(start: int, stop: int, size: int) -> list[list[int]]:
    """Cut a block into batches, so that a resumed block has the batches of the first run."""
    return [list(range(at, min(at + size, stop))) for at in range(start, stop, size)]


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
