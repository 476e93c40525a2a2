"""One function per verb, called by the command line and from Python; nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentood.detectors import fitted as fitting
from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted, load
from latentood.device import parse_memory, resolve_device
from latentood.errors import ConfigError, TrackingError, masked
from latentood.evaluation.comparison import Comparison, Unscored
from latentood.evaluation.request import ALL, select
from latentood.evaluation.roles import Roles
from latentood.evaluation.scoring import score_all
from latentood.evaluation.transfer import with_origin
from latentood.extraction.model.head import find_head
from latentood.extraction.model.outline import LayerFacts, describe
from latentood.extraction.model.weights import load_model
from latentood.extraction.passes.modules import stochastic_modules
from latentood.extraction.run import estimate as estimating
from latentood.extraction.run.estimate import Estimate
from latentood.extraction.run.inputs import open_inputs
from latentood.extraction.run.job import Job, prepare
from latentood.extraction.run.runner import Progress, Summary, run
from latentood.latents import Latents
from latentood.latents.facts import Role
from latentood.latents.splits import Splits, SplitsInMemory
from latentood.pipeline.schema import Pipeline, load_pipeline, parse_pipeline
from latentood.pipeline.targets import import_beside
from latentood.report.results import write_results
from latentood.report.tracking import track
from latentood.report.tracking_store import default_uri
from latentood.report.tracking_training import track_training
from latentood.store.cache import open_cache
from latentood.training import train as training
from latentood.training.train import Trained

NO_TRACKING = "none"

PipelineSource = Pipeline | Mapping[str, Any] | Path | str
"""A pipeline, or the file that holds it."""

Arrays = Latents | Mapping[str, Any]
"""Rows: latents, or the keyword arguments that make them."""


@dataclass(frozen=True)
class Files:
    """Where a comparison was written: its files by kind, and the MLflow store if it is tracked."""

    results: dict[str, Path]
    tracking: str | None = None
    tracking_error: str | None = None  # why it could not be tracked


def layers(
    pipeline: PipelineSource,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> list[LayerFacts]:
    """Run one row through a model and list its modules.

    Args:
        pipeline: A pipeline, or the file that holds it.
        device: Instead of the pipeline's.
        overrides: ``key=value`` each, for a file.

    Raises:
        LatentOODError: The model or its data cannot be built.
    """
    given = _pipeline(pipeline, overrides)
    where = resolve_device(device or given.extract.device)
    model = load_model(given.model, given.seed).to(where)
    row = open_inputs(given, next(iter(given.splits)), limit=1).first(1)
    # The row twice: an output with another first axis, such as one per window, is not per row.
    batch = row.expand(2, *row.shape[1:]).to(where)
    head = find_head(model, batch, named=given.head, output=given.model.output)
    return describe(model, batch, head, stochastic_modules(model))


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
    given = _pipeline(pipeline, overrides)
    job = training.prepare(given, device=device)
    done = training.train(job, Path(out), overwrite=overwrite, progress=progress)
    if tracking != NO_TRACKING and done.finished and done.computed:
        track_training(
            given.name,
            done.history,
            params={"pipeline": given.name, "pipeline.seed": given.seed, **job.identity},
            files=[done.out / "history.csv"],
            uri=tracking or default_uri(),
        )
    return done


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


def fit(
    detector: Detector | str,
    train: Latents | Splits | Path | str,
    val: Latents | None = None,
    *,
    layer: str | None = None,
    settings: Sequence[str] = (),
    device: torch.device | str | None = None,
) -> Fitted:
    """Fit a detector.

    Args:
        detector: What to fit, or its name.
        train: Rows of the fit split; or a cache (or its folder) with a split of role ``fit``, and
            ``val`` for some: the fitted detector then records the cache it was fitted on.
        val: Rows of the ID validation split, for detectors that declare it; a cache has its own.
        layer: Its layer; only where it is given by name.
        settings: ``detector.hyperparameter=value`` each; only where it is given by name.
        device: Where to compute; by default where the latents are, for a cache the GPU if there is
            one.

    Returns:
        The fitted detector.

    Raises:
        MissingInput: An array the detector declares is not there.
        DataError: No rows, a value that is not finite, a shape or a label that cannot be.
        DetectorError: The hyperparameters do not fit these rows.
        ConfigError: The request is not for one detector, sets something beside an object, or the
            cache lacks a role.
    """
    if isinstance(train, Latents):
        given: dict[str, tuple[Role, Latents]] = {"train": ("fit", train)}
        if val is not None:
            given["val"] = ("val", val)
        one = _one(detector, SplitsInMemory.of(**given), layer, settings)
        return fitting.fit(one, train, val, device=device)
    splits = _splits(train)
    one = _one(detector, splits, layer, settings)
    roles = Roles.of(splits, scores=False)
    rows = roles.open(splits, resolve_device(str(device or "auto")))
    own_val = None if roles.val is None else rows[roles.val]
    return with_origin(fitting.fit(one, rows[str(roles.fit)], own_val), splits)


def score(
    source: Splits | Path | str | None = None,
    *,
    detectors: str | Sequence[str | Detector] | None = None,
    layers: str | Sequence[str] | None = None,
    settings: Sequence[str] = (),
    fitted: Sequence[Fitted | Path | str] = (),
    any_cache: bool = False,
    allow_overlap: bool = False,
    train: Arrays | None = None,
    val: Arrays | None = None,
    id: Arrays | None = None,
    near: Mapping[str, Arrays] | None = None,
    far: Mapping[str, Arrays] | None = None,
    device: str | None = None,
    memory: int | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Fit and score detectors, and compare them: on a cache, or on arrays that are already there.

    Args:
        source: A cache, or its folder.
        detectors: ``all``, names (a list, or separated by commas) or detectors; default: all, or
            with ``fitted`` none but those.
        layers: Layers or globs, for detectors that can read any layer.
        settings: ``detector.hyperparameter=value`` each.
        fitted: Detectors that were fitted before, or their files; no fit rows are needed for them.
        any_cache: Score them even where they belong to another run.
        allow_overlap: Score splits even if most of their rows also stand in another one, by the
            hashes of their inputs.
        train: Instead of a cache: rows to fit on.
        val: ID rows not seen in training, for detectors that calibrate on them.
        id: ID rows to score.
        near: name → OOD rows close to the classes; ``fit``, ``val`` and ``id`` are the names of
            the rows above, and every name may occur once.
        far: name → OOD rows far from the classes.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read; no
            number depends on it.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The comparison. :func:`publish` writes and tracks it.

    Raises:
        LatentOODError: The request does not fit the rows, or the cache is damaged.
    """
    splits = _given(source, {"fit": train, "val": val, "id": id}, {"near": near, "far": far})
    where = resolve_device(device or "auto")
    names, ready = _asked(detectors)
    skipped: tuple[Unscored, ...] = ()
    optional: tuple[Detector, ...] = ()
    if names or layers or settings or not (fitted or ready):
        selection = select(names or ALL, layers=layers, settings=settings, splits=splits)
        ready = [*selection.detectors, *ready]
        skipped, optional = selection.skipped, selection.optional
    return score_all(
        splits,
        ready,
        fitted=[one if isinstance(one, Fitted) else load(one, device=where) for one in fitted],
        any_cache=any_cache,
        allow_overlap=allow_overlap,
        skipped=skipped,
        optional=optional,
        device=where,
        memory=parse_memory(memory) if isinstance(memory, str) else memory,
        progress=progress,
    )


def publish(comparison: Comparison, folder: Path | str, *, tracking: str | None = None) -> Files:
    """Write the results of a comparison, then track them in MLflow.

    Args:
        comparison: What :func:`score` gave.
        folder: Folder of the results; files of earlier results in it are replaced.
        tracking: MLflow store; ``none`` for no tracking; default: ``$MLFLOW_TRACKING_URI``, else
            ``mlflow.db`` in the current folder.

    Returns:
        Where it went. A failure of the tracking store is reported there: results are on disk
        before tracking starts.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    results = write_results(comparison, folder)
    if tracking == NO_TRACKING:
        return Files(results)
    uri = tracking or default_uri()
    try:
        track(comparison, uri=uri, results=results)
    except TrackingError as error:
        return Files(results, tracking_error=str(error))
    return Files(results, tracking=masked(uri))


def results_folder(store: Path | str) -> Path:
    """Give the folder beside a cache in which its results lie unless another is named."""
    path = Path(store)
    return path.with_name(path.stem + "-results")


def _pipeline(given: PipelineSource, overrides: Sequence[str]) -> Pipeline:
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, Mapping):
        return parse_pipeline(given)
    import_beside(Path(given).resolve().parent)
    return load_pipeline(given, overrides)


def _job(
    pipeline: PipelineSource,
    store: Path | str,
    *,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    **options: Any,
) -> Job:
    given = _pipeline(pipeline, overrides)
    return prepare(given, store=None if overwrite else store, **options)


def _splits(source: Splits | Path | str) -> Splits:
    return open_cache(source) if isinstance(source, str | Path) else source


def _given(
    source: Splits | Path | str | None,
    single: Mapping[Role, Arrays | None],
    several: Mapping[Role, Mapping[str, Arrays] | None],
) -> Splits:
    """Open a cache, or give arrays the roles of their arguments."""
    given = {role: [(str(role), rows)] for role, rows in single.items() if rows is not None}
    given |= {role: list(rows.items()) for role, rows in several.items() if rows}
    if (source is None) == (not given):
        raise ConfigError(
            "score: must be given a cache, or rows as train=, id= and near= or far=, got "
            f"{'both' if given else 'neither'}; name one of them"
        )
    if source is not None:
        return _splits(source)
    named: dict[str, tuple[Role, Latents]] = {}
    for role, sets in given.items():
        for name, rows in sets:
            if name in named:
                raise ConfigError(
                    f"score: each set of rows must have a name of its own, got {name!r} twice; "
                    "rename one"
                )
            latents = rows if isinstance(rows, Latents) else Latents(**{"name": name, **rows})
            named[name] = (role, latents)
    return SplitsInMemory.of(**named)


def _asked(
    detectors: str | Sequence[str | Detector] | None,
) -> tuple[str | list[str] | None, list[Detector]]:
    """Separate names from detectors."""
    if detectors is None or isinstance(detectors, str):
        return detectors, []
    for one in detectors:
        if not isinstance(one, str | Detector):
            raise ConfigError(
                f"score: detectors must be names or detectors, got {one!r}; give fitted ones as "
                "fitted=, and of a class an object"
            )
    names = [one for one in detectors if isinstance(one, str)]
    return names, [one for one in detectors if isinstance(one, Detector)]


def _one(
    given: Detector | str, splits: Splits, layer: str | None, settings: Sequence[str]
) -> Detector:
    """Give the detector, or build it by its name."""
    if isinstance(given, Detector):
        options = {"layer": layer, "settings": list(settings)}
        ignored = ", ".join(f"{name}={value!r}" for name, value in options.items() if value)
        if ignored:
            raise ConfigError(
                f"fit: layer= and settings= must be given with the name of a detector, got "
                f"{ignored} beside an object of {given.name}; set them on the object"
            )
        return given
    chosen = select(
        given, layers=[layer] if layer else None, settings=settings, splits=splits, scores=False
    ).detectors
    if len(chosen) != 1:
        raise ConfigError(
            f"fit: must be for one detector with one value for each hyperparameter, got "
            f"{len(chosen)}; name one detector, one layer and one value each"
        )
    return chosen[0]
