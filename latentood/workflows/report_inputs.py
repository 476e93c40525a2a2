"""What a report shows from a cache: features in two dimensions, passes, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentood.detectors.base import Detector
from latentood.detectors.registry import detector
from latentood.detectors.statistics.bank import drawn
from latentood.errors import DataError, DetectorError, LatentOODError, MissingInput
from latentood.evaluation.choice.convergence import Point, convergence
from latentood.evaluation.choice.passes import passes_kept, require_each_pass
from latentood.evaluation.metrics import Array, quality_of
from latentood.latents import LABELS, LOGITS, Key, Latents
from latentood.latents.key import PENULTIMATE
from latentood.latents.splits import Splits
from latentood.report.html import Document, Extras, Projection, Reliability
from latentood.stats.moments import MomentSums

_POINTS = 2000  # of a projection
_BINS = 15  # of the reliability diagram, as of the ECE
_MOST = 4  # detectors whose number of passes is varied

Progress = Callable[[str, int, int], None]


@dataclass
class _Inputs:
    """What was computed so far, and why the rest was not."""

    values: dict[str, Any]
    missing: dict[str, str]

    def add(self, panel: str, compute: Callable[[], Mapping[str, Any]]) -> None:
        """Compute what a panel shows, or keep the reason why it cannot be."""
        try:
            self.values |= compute()
        except LatentOODError as error:
            self.missing[panel] = str(error)


def inputs_of(
    document: Document,
    splits: Splits,
    *,
    device: torch.device | str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Extras:
    """Compute what a report shows from the rows that were scored.

    Args:
        document: The results.
        splits: Rows of the unit that was scored.
        device: Where detectors are scored on fewer passes.
        memory: Bytes for arrays that were read.
        progress: Called with what is being done.
    """
    inputs = _Inputs({}, {})
    inputs.add("projection", lambda: projections(document, splits, inputs.missing))
    inputs.add("reliability", lambda: reliability(document, splits))
    inputs.add(
        "convergence",
        lambda: {"convergence": passes_of(document, splits, device, memory, progress)},
    )
    return Extras(**inputs.values, missing=inputs.missing)


def projections(document: Document, splits: Splits, missing: dict[str, str]) -> dict[str, Any]:
    """Project features of some rows of each split onto two dimensions.

    The axes of the PCA are those of the fit split. At most 2,000 rows are shown, as many of each
    split; a seed alone decides which. UMAP sees these rows alone, where it is installed.

    Raises:
        MissingInput: There are no features.
        DataError: They have fewer than two dimensions.
    """
    names = list(document.roles)
    if not names:
        raise DataError("projection: must have rows that were scored, got none; see the failures")
    fit = next(name for name, facts in splits.splits.items() if facts.role == "fit")
    key = _features(splits[fit])
    points = {name: _some(len(splits[name]), _POINTS // len(names)) for name in names}
    features = np.concatenate([_read(splits[name], key, rows) for name, rows in points.items()])
    made = [_pca(splits[fit], key, features, fit)]
    try:
        made.append(_umap(features, key))
    except ImportError:
        missing["umap"] = "UMAP is not installed: pip install 'latentood[umap]' adds its map."
    return {"points": points, "projections": made}


def reliability(document: Document, splits: Splits) -> dict[str, Any]:
    """Compare confidences of the ID predictions with their accuracy, in 15 bins of equal width.

    Raises:
        MissingInput: There are no logits, or no labels.
        DataError: There is no ID split, or no row of it has a label.
    """
    name = document.id_split
    if name is None:
        raise DataError("calibration: must have an ID split, got none; extract one of role id")
    rows = splits[name]
    rows.require((LOGITS, LABELS), who="calibration")
    logits, labels = rows.double(LOGITS).cpu().numpy(), rows[LABELS].cpu().numpy()
    known = (labels >= 0) & (labels < logits.shape[1])
    if not known.any():
        raise DataError(f"calibration: rows of {name} must have labels, got none; extract them")
    quality = quality_of(logits[known], labels[known])
    p = torch.softmax(torch.from_numpy(logits[known]), dim=1)
    confidence, chosen = (one.numpy() for one in p.max(dim=1))
    bins = np.searchsorted(np.linspace(0, 1, _BINS + 1)[1:-1], confidence)
    count = np.bincount(bins, minlength=_BINS)
    means = [
        tuple((np.bincount(bins, one, _BINS) / np.maximum(count, 1)).tolist())
        for one in (confidence, chosen == labels[known])
    ]
    diagram = Reliability(tuple(count.tolist()), *means)
    return {"reliability": diagram, "predictions": vars(quality)}


def passes_of(
    document: Document,
    splits: Splits,
    device: torch.device | str | None,
    memory: int | None,
    progress: Progress | None,
) -> list[Point]:
    """Score the best detectors that read passes on fewer of them: 2, 4, 8 … and all.

    Raises:
        MissingInput: No detector reads passes that were kept one by one.
    """
    if document.unit != "image" or document.provenance.get("image_score"):
        raise DataError("passes: are varied for scores of images alone; score the unit image")
    fit = next(name for name, facts in splits.splits.items() if facts.role == "fit")
    reading = [one for one in _built(document) if _reads_passes(one)]
    if not reading:
        raise MissingInput("passes: a detector that reads passes must have been scored, got none; "
                           "extract with monte_carlo, and score again")  # fmt: skip
    able, why = [], None
    for one in reading:
        try:
            require_each_pass(one, splits[fit])
            able.append(one)
        except MissingInput as error:
            why = why or error
    if why is not None and not able:
        raise why
    most = passes_kept(splits[fit])
    counts = sorted({2**n for n in range(1, most.bit_length()) if 2**n < most} | {most})
    points = convergence(
        splits, able[:_MOST], passes=counts, device=device, memory=memory, progress=progress
    )
    if not points:
        raise DetectorError("passes: detectors must be scored on fewer passes, but all of them "
                            "failed; score one of them with --verbose")  # fmt: skip
    return points


def _features(rows: Latents) -> Key:
    keys = [key for key in rows.keys() if key.kind == "features"]  # noqa: SIM118
    flat = [key for key in keys if len(rows.shape(key)) == 2]
    if not flat:
        rows.require([Key("features", PENULTIMATE)], who="projection")
    return next((key for key in flat if key.layer == PENULTIMATE), flat[-1])


def _some(rows: int, count: int) -> NDArray[np.int64]:
    chosen: NDArray[np.int64] = drawn(rows, count / rows, seed=0).numpy()
    return chosen


def _read(rows: Latents, key: Key, chosen: NDArray[np.int64]) -> Array:
    """Read some rows, without keeping the others."""
    parts = []
    for chunk in rows.chunks([key]):
        first = chunk.offset - rows.offset
        own = chosen[(chosen >= first) & (chosen < first + len(chunk))] - first
        parts.append(chunk.double(key)[torch.from_numpy(own)].cpu().numpy())
    return np.concatenate(parts)


def _pca(fit: Latents, key: Key, features: Array, name: str) -> Projection:
    sums = MomentSums()
    for chunk in fit.chunks([key]):
        sums.add(chunk.double(key))
    moments = sums.result()
    if moments.covariance.rank < 2:
        raise DataError(
            f"projection: {key} of {name} must vary in two directions, got "
            f"{moments.covariance.rank}; extract another layer"
        )
    values, vectors = (one.cpu().numpy() for one in moments.covariance.spectrum)
    axes = vectors[:, :2] * np.sign(vectors[np.abs(vectors[:, :2]).argmax(axis=0), [0, 1]])
    shares = values[:2] / values.sum()
    about = (
        f"PCA of {key}: the axes are those of {name}, with {shares[0]:.0%} and {shares[1]:.0%} of "
        "its variance."
    )
    return Projection("PCA", about, (features - moments.mean.cpu().numpy()) @ axes)


def _umap(features: Array, key: Key) -> Projection:
    umap = import_module("umap").UMAP(n_components=2, random_state=0, n_jobs=1)
    about = f"UMAP of {key} of the rows shown: what is near is alike; distances beyond mean little."
    return Projection("UMAP", about, np.asarray(umap.fit_transform(features), dtype=np.float64))


def _built(document: Document) -> list[Detector]:
    """Build the detectors again; those of packages that are not here are left out."""
    built = []
    for entry in document.entries:
        try:
            built.append(detector(entry.name[0], **entry.hyperparameters))
        except LatentOODError:
            continue
    return built


def _reads_passes(one: Detector) -> bool:
    return any(Key.parse(key).of_passes for key in one.needs().score)
