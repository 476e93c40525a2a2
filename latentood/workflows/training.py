"""Train the network of a pipeline, or a head on features that a cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentood.device import one_thread
from latentood.extraction.heads import KeptHead, keep_head
from latentood.latents import PENULTIMATE
from latentood.pipeline.schema import Pipeline
from latentood.report.tracking_store import default_uri
from latentood.report.tracking_training import track_training
from latentood.training import cached
from latentood.training import train as training
from latentood.training.job import Job
from latentood.training.train import Trained
from latentood.workflows.given import NO_TRACKING, PipelineSource, pipeline_of


@dataclass(frozen=True)
class TrainedHead:
    """A head that was trained on features of a cache."""

    training: Trained
    kept: KeptHead | None  # what the cache holds of it; None if training was stopped

    @property
    def finished(self) -> bool:
        """Whether it is trained, and all of its arrays are in the cache."""
        return self.kept is not None and self.kept.finished


def train(
    pipeline: PipelineSource,
    out: Path | str,
    *,
    device: str | None = None,
    overwrite: bool = False,
    tracking: str | None = NO_TRACKING,
    overrides: Sequence[str] = (),
    progress: training.Progress | None = None,
) -> Trained:
    """Train the network of a pipeline as its section ``training:`` says.

    A folder with the checkpoint of an earlier call is gone on from, to the weights of a run that
    was never stopped: bit for bit on a CPU. SIGINT and SIGTERM stop it after a step.

    Args:
        pipeline: What to train: a pipeline, or the file that holds it.
        out: Folder of the weights, the history and the checkpoint.
        device: Instead of the pipeline's.
        overwrite: Throw away what an earlier call left in the folder.
        tracking: MLflow store for the curves once it is finished, as for :func:`publish`; default:
            ``none``.
        overrides: ``key=value`` each, for a file.
        progress: Called after every step with (what, steps done, steps in all).

    Raises:
        LatentOODError: Anything that does not fit, most of it before the first step.
    """
    given = pipeline_of(pipeline, overrides)
    job = training.prepare(given, device=device)
    done = training.train(job, Path(out), overwrite=overwrite, progress=progress)
    _track(given, job, done, tracking)
    return done


def train_head(
    pipeline: PipelineSource,
    cache: Path | str,
    out: Path | str | None = None,
    *,
    layer: str = PENULTIMATE,
    name: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    tracking: str | None = NO_TRACKING,
    overrides: Sequence[str] = (),
    progress: training.Progress | None = None,
) -> TrainedHead:
    """Train a head on the features that a cache holds, and add what it gives to the cache.

    The network that the features are of is not run. Objective, optimiser and epochs are those of
    the section ``training:``; the head is a classifier of its own, linear or with the hidden
    layers of ``training.hidden``, and what the objective learns beside it. Detectors such as
    ``vacuity`` then read its arrays by its name, e.g. ``dirichlet/evidential``.

    A call that was stopped is gone on from, as in :func:`train`; splits that were extracted since
    an earlier call get their arrays.

    Args:
        pipeline: How to train: a pipeline, or the file that holds it.
        cache: The cache, which is written to.
        out: Folder of the weights, the history and the checkpoint; default: :func:`head_folder`.
        layer: The layer whose features are read.
        name: What to call the head; default: the name of the objective.
        device: Where to compute; default: the GPU if there is one.
        overwrite: Train anew, and replace what the cache has of a head of this name.
        tracking: As for :func:`train`.
        overrides: ``key=value`` each, for a file.
        progress: Called with (what, steps or rows done, steps or rows in all).

    Raises:
        LatentOODError: Anything that does not fit, most of it before the first step.
    """
    given, store = pipeline_of(pipeline, overrides), Path(cache)
    job = cached.prepare(given, store, layer=layer, device=device)
    called = name or job.network.objective.name
    folder = head_folder(store, called) if out is None else Path(out)
    kept = None
    with one_thread():  # a step on features is too small to be shared
        done = training.train(job, folder, overwrite=overwrite, progress=progress)
        if done.finished:
            kept = keep_head(
                store, called, done.weights, anew=overwrite, device=job.device, progress=progress
            )
    _track(given, job, done, tracking)
    return TrainedHead(done, kept)


def head_folder(store: Path | str, name: str) -> Path:
    """Give the folder beside a cache in which a head is trained unless another is named."""
    path = Path(store)
    return path.with_name(f"{path.stem}-heads") / name


def _track(given: Pipeline, job: Job, done: Trained, tracking: str | None) -> None:
    """Record a training run that this call finished."""
    if tracking != NO_TRACKING and done.finished and done.computed:
        track_training(
            given.name,
            done.history,
            params={"pipeline": given.name, "pipeline.seed": given.seed, **job.identity},
            files=[done.out / "history.csv"],
            uri=tracking or default_uri(),
            statistics=done.statistics,
        )
