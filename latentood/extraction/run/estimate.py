"""What an extraction will cost, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentood.extraction.passes.timing import seconds_per_row
from latentood.extraction.run.job import Job
from latentood.store.disk import free_bytes


@dataclass(frozen=True)
class Estimate:
    """Rows, bytes and seconds of a job.

    Attributes:
        rows: split → rows.
        blocks: split → blocks.
        array_bytes: split → key → bytes before compression.
        free_bytes: What the disk can take.
        batch_size: Rows run together, as asked for or chosen.
        seconds_per_row: Timed on one batch of the first split, without loading and score taps.
    """

    rows: dict[str, int]
    blocks: dict[str, int]
    array_bytes: dict[str, dict[str, int]]
    free_bytes: int
    batch_size: int
    seconds_per_row: float

    @property
    def total_bytes(self) -> int:
        """Bytes of all arrays before compression."""
        return sum(size for arrays in self.array_bytes.values() for size in arrays.values())

    @property
    def total_seconds(self) -> float:
        """Time in the model; loading and score taps are not counted."""
        return self.seconds_per_row * sum(self.rows.values())


def estimate(job: Job, store: Path | str) -> Estimate:
    """Lay out a job and time one batch; nothing is written."""
    return Estimate(
        rows={name: spec.rows for name, spec in job.specs.items()},
        blocks={n: spec.blocks for n, spec in job.specs.items()},
        array_bytes={
            name: {array.key: array.nbytes * spec.rows for array in spec.arrays}
            for name, spec in job.specs.items()
        },
        free_bytes=free_bytes(store),
        batch_size=job.batch_size,
        seconds_per_row=_timed(job),
    )


def _timed(job: Job) -> float:
    batch = next(iter(job.inputs.values())).first(job.batch_size).to(job.device)
    return seconds_per_row(job.plan.engine, batch)
