"""What detectors require of their rows and of the head, as errors that name a remedy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from torch import Tensor

from latentood.detectors.base import Detector
from latentood.device import free_memory
from latentood.errors import DataError, DetectorError
from latentood.files import human_bytes
from latentood.latents import HEAD, LABELS, LOGITS, PENULTIMATE_FEATURES, Key, Latents
from latentood.stats.linalg import Covariance
from latentood.stats.neighbours.copies import Copies

log = logging.getLogger(__name__)


def checked_head(who: str, train: Latents) -> tuple[Tensor, Tensor]:
    """Give weight (C, D) and bias (C,) of a head over the penultimate features.

    Raises:
        DetectorError: The head reads another width, or has one class.
    """
    weight, bias = train.head
    if len(weight) < 2:
        raise one_class(who)
    width = train.shape(PENULTIMATE_FEATURES)[1]
    if weight.shape[1] != width:
        raise DetectorError(
            f"{who}: the head must read the {width} features of {PENULTIMATE_FEATURES}, got a "
            f"weight of shape {tuple(weight.shape)}; give the head of this layer"
        )
    return weight, bias


def one_class(who: str) -> DetectorError:
    """Build the error for a single class, where every softmax is 1 and all scores are equal."""
    return DetectorError(
        f"{who}: the model must have ≥ 2 classes, got 1; use a detector of features alone"
    )


def checked_whitener(who: str, covariance: Covariance, ridge: float, train: Latents) -> Tensor:
    """Give the whitener (D, D) of the covariance of fit rows; a ridge is a share of trace/D.

    Raises:
        DetectorError: The rows do not vary, or the rank is short and there is no ridge.
    """
    width, rank = len(covariance.matrix), covariance.rank
    if rank == 0:
        raise no_spread(who, len(train), train)
    if rank < width:
        if ridge == 0:
            raise DetectorError(
                f"{who} must have a covariance of full rank {width} without a ridge, got rank "
                f'{rank} from {len(train)} rows of "{train.name}"; set ridge=1e-6 or extract '
                "more rows"
            )
        log.warning(
            "%s has a covariance of rank %d in %d dimensions over the %d rows of %r: the ridge "
            "decides in the others",
            who, rank, width, len(train), train.name,
        )  # fmt: skip
    return covariance.whitener(ridge)


def check_passes(who: str, key: str, passes: int) -> None:
    """Refuse a single pass: it has no spread, and every score would be the same."""
    if passes < 2:
        raise DetectorError(
            f"{who}: {key} must have ≥ 2 passes, got {passes}; re-run extract with "
            "monte_carlo: {passes: 16}"
        )


def check_memory(detector: Detector, train: Latents) -> None:
    """Refuse a fit that takes more memory than is free, before anything is allocated.

    Raises:
        DetectorError: Names what it takes and what there is.
    """
    needed, free = detector.memory(train), free_memory(train.device)
    if needed > free:
        shapes = (f"{key} {train.shape(key)}" for key in detector.needs().fit if key != HEAD)
        raise DetectorError(
            f"{detector.name}: what a fit takes must be ≤ the {human_bytes(free)} that are free on "
            f"{train.device}, got about {human_bytes(needed)} for {', '.join(shapes)}; choose a "
            "narrower layer, a reduction that pools more, or a lower --memory"
        )


def check_widths(who: str, rows: Latents, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse rows of another shape than the fit rows had: key → shape of one row.

    Raises:
        DetectorError: Names the array.
    """
    for key, shape in expected.items():
        given = rows.shape(key)[1:]
        if given != shape:
            raise DetectorError(
                f"{who}: {key} must have rows of shape {shape} as in the fit rows, got {given} in "
                f'"{rows.name}"; give latents of the same model and layer'
            )


def check_fit_rows(who: str, rows: Latents, keys: Iterable[str]) -> None:
    """Check that rows to fit on have all arrays, with the right axes and possible labels.

    Raises:
        MissingInput: An array is not there.
        DataError: There are no rows, or axes or labels that cannot be.
    """
    rows.require(keys, who=who)
    if len(rows) == 0:
        raise DataError(f"{rows.name}: there are no rows to fit {who} on; give at least one")
    check_axes(who, rows, keys)
    if LABELS in keys:
        _check_labels(rows)


def check_axes(who: str, rows: Latents, keys: Iterable[str]) -> None:
    """Refuse arrays with too few or too many axes, such as feature maps that were not pooled."""
    for key in keys:
        axes = Key.parse(key).axes
        if axes and len(shape := rows.shape(key)) != len(axes):
            named = ", ".join(axes) + "," * (len(axes) == 1)
            raise DataError(
                f"{rows.name}: {key} must be ({named}) to use {who}, got {shape}; pool or reshape "
                "it first"
            )


def _check_labels(rows: Latents) -> None:
    """Refuse labels that are no class of the model."""
    labels = rows[LABELS]
    if labels.is_floating_point():
        raise DataError(f"{rows.name}: labels must be integers, got {labels.dtype}; convert them")
    classes = _class_count(rows)
    bad = (labels < 0) if classes is None else (labels < 0) | (labels >= classes)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        upper = "" if classes is None else f" and < {classes}, the number of classes"
        raise DataError(
            f"{rows.name}: labels must be ≥ 0{upper}, got {int(labels[row])} in row "
            f"{rows.offset + row}; fix the data set's labels, or fit on a split without such rows"
        )


def _class_count(rows: Latents) -> int | None:
    """Count the classes of the model; ``None`` without logits and head."""
    if LOGITS in rows:
        return rows.shape(LOGITS)[1]
    return len(rows.head[1]) if HEAD in rows else None


def too_many_neighbours(who: str, k: int, rows: int, remedy: str) -> DetectorError:
    """Build the error for more neighbours than a bank has rows."""
    return DetectorError(f"{who}: k must be ≤ the bank's {rows} rows, got {k}; lower k or {remedy}")


def require_neighbours(who: str, k: int, size: int, own: Copies | None) -> int:
    """Count the rows of a bank of ``size`` that are no copies of any compared row.

    Raises:
        DetectorError: There are fewer than ``k``.
    """
    others = size - (0 if own is None else own.most)
    if k > others:
        raise too_many_neighbours(who, k, others, "score rows other than the fit rows")
    return others


def no_spread(who: str, rows: int, train: Latents) -> DetectorError:
    """Build the error for ``rows`` fit rows that are all the same."""
    return DetectorError(
        f"{who} must vary between the rows of a fit, got {rows} rows of "
        f'"{train.name}" without spread; extract more rows or choose another layer'
    )
