"""The rows, bytes and seconds of an extraction, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentood.extraction.model.batches import moved
from latentood.extraction.passes.timing import seconds_per_row
from latentood.extraction.run.job import Job
from latentood.store.conflicts import refuse_other_job
from latentood.store.disk import free_bytes


@dataclass(frozen=True)
class Estimate:
    """Rows, bytes and seconds of a job."""

    rows: dict[str, int]  # by split
    blocks: dict[str, int]  # by split
    array_bytes: dict[str, dict[str, int]]  # split → key → bytes before compression
    free_bytes: int  # free on the disk
    batch_size: int  # rows run together, as in the pipeline or chosen by timing
    seconds_per_row: float  # of one batch of the first split, without loading and score taps

    @property
    def total_bytes(self) -> int:
        """Bytes of all arrays before compression."""
        return sum(size for arrays in self.array_bytes.values() for size in arrays.values())

    @property
    def total_seconds(self) -> float:
        """Time in the model; loading and score taps are not counted."""
        return self.seconds_per_row * sum(self.rows.values())


def estimate(job: Job, store: Path | str, *, overwrite: bool = False) -> Estimate:
    """Lay out a job and time one batch; nothing is written.

    Raises:
        FingerprintMismatch: The store holds another run's results, which are to stay.
    """
    if not overwrite:
        refuse_other_job(Path(store), job.origin, job.head, job.specs.values())
    batch = moved(next(iter(job.inputs.values())).first(job.batch_size), job.device)
    return Estimate(
        rows={name: spec.rows for name, spec in job.specs.items()},
        blocks={name: spec.blocks for name, spec in job.specs.items()},
        array_bytes={
            name: {array.key: array.nbytes * spec.rows for array in spec.arrays}
            for name, spec in job.specs.items()
        },
        free_bytes=free_bytes(store),
        batch_size=job.batch_size,
        seconds_per_row=seconds_per_row(job.plan.engine, batch),
    )
