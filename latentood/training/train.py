"""Train the network of a pipeline into a folder, or go on where an earlier call stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentood.errors import ConfigError, StoreError
from latentood.extraction.run.runner import stop_signals
from latentood.files import remove
from latentood.training import checkpoints, history, weights
from latentood.training.job import Job, prepare
from latentood.training.loop import Progress, Run

__all__ = ["Job", "Progress", "Trained", "prepare", "train"]


@dataclass(frozen=True)
class Trained:
    """The result of a training run."""

    out: Path  # its folder
    weights: Path  # of the best epoch
    history: list[dict[str, float]]  # one mapping per epoch
    best: dict[str, float]  # the epoch of the weights
    steps: int  # steps done
    computed: int  # steps of this call
    finished: bool  # False if a signal stopped it; it can then be resumed
    statistics: Path | None  # histograms of the val split for the best epoch of a classifier


def train(
    job: Job, out: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Trained:
    """Train a job; what the folder holds of an earlier call of the same job is gone on from.

    SIGINT and SIGTERM stop it after a step, with a checkpoint.

    Raises:
        ConfigError: The folder cannot be written to.
        StoreError: It holds the checkpoint of another run.
        ModelError: The loss is not finite.
    """
    checkpoint = out / checkpoints.FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"train: {out} must be a folder that can be written to, but it is not "
            f"({error.strerror}); choose another --out"
        ) from error
    if overwrite:
        files = (checkpoints.FILE, weights.FILE, weights.LAST, history.FILE, history.STATISTICS)
        for name in files:
            remove(out / name)
    elif not checkpoint.exists() and (out / weights.FILE).exists():
        raise StoreError(
            f"{out}: holds {weights.FILE} but no checkpoint to go on from; choose another "
            f"{checkpoints.place_of(job.identity)}, or --overwrite to train anew"
        )
    run = Run(job, out, progress or (lambda *_: None))
    if checkpoint.exists():
        run.restore(checkpoints.load(checkpoint, identity=job.identity))
        if run.best:
            weights.check(out / weights.FILE)
    before = run.step
    with stop_signals() as stopped:
        run.go(stopped.is_set)
    return Trained(
        out=out,
        weights=out / weights.FILE,
        history=run.epochs,
        best=run.best,
        steps=run.step,
        computed=run.step - before,
        finished=run.finished,
        statistics=statistics if (statistics := out / history.STATISTICS).exists() else None,
    )
