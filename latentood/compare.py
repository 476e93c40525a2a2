"""From a cache to fitted detectors, and to a comparison on disk and in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from latentood.detectors.fitting import Fitted, fit
from latentood.detectors.loading import load
from latentood.errors import ConfigError, TrackingError
from latentood.evaluation.comparison import Comparison
from latentood.evaluation.memory import parse_memory
from latentood.evaluation.planning import ALL, Plan, plan
from latentood.evaluation.scoring import score_all
from latentood.evaluation.splits import Roles
from latentood.evaluation.transfer import with_origin
from latentood.report.results import write_results
from latentood.store.cache import open_cache

NO_TRACKING = "none"


@dataclass(frozen=True)
class Files:
    """Where a comparison went.

    Attributes:
        results: kind → file.
        tracking: MLflow store; ``None`` if it was not tracked.
        tracking_error: Why it could not be tracked.
    """

    results: dict[str, Path]
    tracking: str | None = None
    tracking_error: str | None = None


def compare(
    store: Path | str,
    *,
    names: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    settings: Sequence[str] = (),
    fitted: Sequence[Path | str] = (),
    any_cache: bool = False,
    out: Path | str | None = None,
    tracking: str | None = None,
    device: str | None = None,
    memory: int | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Comparison, Files]:
    """Score detectors on a cache, write the results, then track them.

    Args:
        store: Folder of the cache.
        names: ``all``, or detectors; default: all, or with ``fitted`` none but those.
        layers: Layers or globs, for detectors that can look at any layer.
        settings: ``detector.hyperparameter=value`` each.
        fitted: Files of detectors that were fitted before; the fit split is not needed for them.
        any_cache: Score them even where they belong to another run.
        out: Folder of the results; default: beside the store.
        tracking: MLflow store; ``none`` for no tracking; default: ``$MLFLOW_TRACKING_URI``, else
            ``mlflow.db`` in the current folder.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read; no
            number depends on it.
        progress: Told what is being done, how much of it is done, and how much there is.

    Returns:
        The comparison, and where it was written. A failure of the tracking store is reported
        there: results are on disk before tracking starts.

    Raises:
        LatentOODError: The request does not fit the cache, or the cache is damaged.
    """
    cache = open_cache(store)
    where = _device(device)
    budget = parse_memory(memory) if isinstance(memory, str) else memory
    planned = Plan(())
    if names or layers or settings or not fitted:
        planned = plan(names or ALL, layers=layers, settings=settings, splits=cache)
    comparison = score_all(
        cache,
        planned.detectors,
        fitted=[load(path, device=where) for path in fitted],
        any_cache=any_cache,
        skipped=planned.skipped,
        device=where,
        memory=budget,
        progress=progress,
    )
    folder = Path(out) if out is not None else cache.path.with_name(cache.path.stem + "-results")
    return comparison, _tracked(comparison, write_results(comparison, folder), tracking)


def _tracked(comparison: Comparison, results: dict[str, Path], tracking: str | None) -> Files:
    """Track a comparison whose results are on disk."""
    if tracking == NO_TRACKING:
        return Files(results)
    from latentood.report.tracking import default_uri, track

    uri = tracking or default_uri()
    try:
        track(comparison, uri=uri, results=results)
    except TrackingError as error:
        return Files(results, tracking_error=str(error))
    return Files(results, tracking=uri)


def fit_store(
    store: Path | str,
    name: str,
    *,
    layer: str | None = None,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    device: str | None = None,
) -> Fitted:
    """Fit one detector on a cache, to score other caches with it.

    Args:
        store: Folder of the cache; it needs a split of role ``fit``, and ``val`` for some.
        name: The detector.
        layer: Its layer.
        settings: ``detector.hyperparameter=value`` each.
        out: File to save it to.
        device: Where to compute; default: the GPU if there is one.

    Returns:
        The fitted detector; it knows which cache it was fitted on.

    Raises:
        LatentOODError: The request is not for one detector, or does not fit the cache.
    """
    cache = open_cache(store)
    layers = None if layer is None else [layer]
    found = plan(name, layers=layers, settings=settings, splits=cache, scores=False).detectors
    if len(found) != 1:
        raise ConfigError(
            f"fit: must be for one detector with one value for each hyperparameter, got "
            f"{len(found)}; name one detector, one layer and one value each"
        )
    roles = Roles.of(cache, scores=False)
    rows = roles.open(cache, _device(device))
    val = None if roles.val is None else rows[roles.val]
    fitted = with_origin(fit(found[0], rows[str(roles.fit)], val), cache)
    if out is not None:
        fitted.save(out)
    return fitted


def _device(name: str | None) -> torch.device:
    from latentood.extract.job import resolve_device

    return resolve_device(name or "auto")
