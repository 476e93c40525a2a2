"""Fit, score and compare detectors, and publish what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from latentood.detectors import fitted as fitting
from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted, load
from latentood.device import parse_memory, resolve_device
from latentood.errors import ConfigError, TrackingError, masked
from latentood.evaluation.comparison import Comparison, Unscored
from latentood.evaluation.inputs.request import ALL, select
from latentood.evaluation.inputs.roles import Roles
from latentood.evaluation.inputs.transfer import with_origin
from latentood.evaluation.scoring import score_all
from latentood.evaluation.truth import ImageScore
from latentood.extraction.heads import heads_of
from latentood.latents import Latents
from latentood.latents.facts import Role
from latentood.latents.key import Unit
from latentood.latents.splits import MemberSplits, Splits, SplitsInMemory
from latentood.report.html.document import read_document
from latentood.report.html.page import write_report
from latentood.report.results import write_results
from latentood.report.tracking import track
from latentood.report.tracking_store import default_uri
from latentood.store.cache import Cache
from latentood.workflows.given import NO_TRACKING, Arrays, splits_of


@dataclass(frozen=True)
class Files:
    """Where a comparison was written: its files by kind, and the MLflow store if it is tracked."""

    results: dict[str, Path]
    tracking: str | None = None
    tracking_error: str | None = None  # why it could not be tracked
    maps: Path | None = None  # folder of maps and pictures


def fit(
    detector: Detector | str,
    train: Latents | Splits | Path | str,
    val: Latents | None = None,
    *,
    layer: str | None = None,
    settings: Sequence[str] = (),
    unit: Unit | None = None,
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
        unit: Of a cache, what a row is: ``image``, ``cell`` or ``box``; default: that of its
            pipeline.
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
    cache = splits_of(train)
    splits = MemberSplits(cache, unit or unit_of(cache))
    one = _one(detector, splits, layer, settings)
    roles = Roles.of(splits, scores=False)
    rows = roles.open(splits, resolve_device(str(device or "auto")))
    own_val = None if roles.val is None else rows[roles.val]
    fitted = with_origin(fitting.fit(one, rows[str(roles.fit)], own_val), splits)
    if not isinstance(cache, Cache) or splits.unit != "image":
        return fitted
    made = splits.splits[str(roles.fit)].made
    read = {key: made[key] for key in one.needs().score if key in made}
    return replace(fitted, heads=heads_of(cache, read))


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
    unit: Unit | None = None,
    image_score: ImageScore | None = None,
    prevalence: float = 0.5,
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
        unit: What a score is about: ``image``, ``cell`` or ``box``; default: that of the pipeline
            of the cache, else ``image``.
        image_score: Turn the scores of members into one of their image: ``max``, ``mean``, or
            ``top3``, the mean of the three largest.
        prevalence: Share of OOD in ``aupr_out_at``, in (0, 1).
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
    unit = unit or unit_of(splits)
    names, ready = names_and_detectors(detectors)
    skipped: tuple[Unscored, ...] = ()
    optional: tuple[Detector, ...] = ()
    if names or layers or settings or not (fitted or ready):
        members = MemberSplits(splits, unit)
        selection = select(names or ALL, layers=layers, settings=settings, splits=members)
        ready = [*selection.detectors, *ready]
        skipped, optional = selection.skipped, selection.optional
    return score_all(
        splits,
        ready,
        fitted=[one if isinstance(one, Fitted) else load(one, device=where) for one in fitted],
        any_cache=any_cache,
        allow_overlap=allow_overlap,
        unit=unit,
        image_score=image_score,
        prevalence=prevalence,
        skipped=skipped,
        optional=optional,
        device=where,
        memory=parse_memory(memory) if isinstance(memory, str) else memory,
        progress=progress,
    )


def publish(comparison: Comparison, folder: Path | str, *, tracking: str | None = None) -> Files:
    """Write the results of a comparison, then track them in MLflow, with a report as one page.

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
    if comparison.results:
        page = write_report(read_document(folder), Path(folder) / "report.html")
        results = {**results, "report": page}
    try:
        track(comparison, uri=uri, results=results)
    except TrackingError as error:
        return Files(results, tracking_error=str(error))
    return Files(results, tracking=masked(uri))


def results_folder(
    store: Path | str, unit: Unit | None = None, image_score: ImageScore | None = None
) -> Path:
    """Give the folder beside a cache in which its results lie unless another is named."""
    path = Path(store)
    parts = (part for part in ("results", unit, image_score) if part)
    return path.with_name("-".join([path.stem, *parts]))


def unit_of(splits: Splits) -> Unit:
    """Give the unit of the pipeline that made a cache."""
    unit: Unit = splits.header.pipeline.get("unit", "image")
    return unit


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
        return splits_of(source)
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


def names_and_detectors(
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
