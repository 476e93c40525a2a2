"""From a cache to a comparison on disk and in MLflow: what ``latentood score`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentood.errors import TrackingError
from latentood.evaluation.comparison import Comparison
from latentood.evaluation.planning import plan
from latentood.evaluation.scoring import score_all
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
    names: str | Sequence[str] = "all",
    layers: str | Sequence[str] | None = None,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    tracking: str | None = None,
    device: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Comparison, Files]:
    """Score detectors on a cache, write the results, then track them.

    Args:
        store: Folder of the cache.
        names: ``all``, or detectors.
        layers: Layers or globs, for detectors that can look at any layer.
        settings: ``detector.hyperparameter=value`` each.
        out: Folder of the results; default: beside the store.
        tracking: MLflow store; ``none`` for no tracking; default: ``$MLFLOW_TRACKING_URI``, else
            ``mlflow.db`` in the current folder.
        device: Where to compute.
        progress: Told what is being done, how much of it is done, and how much there is.

    Returns:
        The comparison, and where it was written. A failure of the tracking store is reported
        there: results are on disk before tracking starts.

    Raises:
        LatentOODError: The request does not fit the cache, or the cache is damaged.
    """
    cache = open_cache(store)
    planned = plan(names, layers=layers, settings=settings, splits=cache)
    comparison = score_all(
        cache, planned.detectors, skipped=planned.skipped, device=device, progress=progress
    )
    folder = Path(out) if out is not None else cache.path.with_name(cache.path.stem + "-results")
    results = write_results(comparison, folder)
    if tracking == NO_TRACKING:
        return comparison, Files(results)
    from latentood.report.tracking import default_uri, track

    uri = tracking or default_uri()
    try:
        track(comparison, uri=uri, results=results)
    except TrackingError as error:
        return comparison, Files(results, tracking_error=str(error))
    return comparison, Files(results, tracking=uri)
