"""From the scores of one detector to its result: metrics, intervals, warnings and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from latentood.evaluation.comparison import (
    NO_CLASS,
    WRONG,
    Average,
    Request,
    Result,
    Row,
    ScoredSplit,
    Selective,
    id_split_of,
    pairs_of,
)
from latentood.evaluation.contrast import (
    Contrast,
    Measures,
    OfMembers,
    OfRows,
    Side,
    average,
    contrast,
)
from latentood.evaluation.members.unknown import components_of, open_set_of
from latentood.evaluation.metrics import (
    Array,
    ClassMetrics,
    by_class,
    id_threshold,
    selective,
)
from latentood.evaluation.warnings import warnings_of
from latentood.latents.facts import OOD_ROLES

WRONG_SET = 1 << 20
"""The number that wrong predictions have among OOD sets: no split has it."""


def measure(
    request: Request,
    splits: Sequence[ScoredSplit],
    scores: Mapping[str, Array],
    *,
    asked: Measures,
    fit_seconds: float,
    score_seconds: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Result:
    """Turn the scores of one detector into a result.

    ``splits`` are the scored splits, ID first. Tie rates and warnings are added to ``provenance``,
    that of the fitted detector. A score that is not finite is a :class:`DataError`.
    """
    pairs = [
        (split, ids, oods, contrast(ids, oods, asked, number))
        for number, (split, ids, oods) in enumerate(pairs_of(splits, scores))
    ]
    rows = tuple(
        _row(request, split, part, fit_seconds, score_seconds[split.name])
        for split, _, _, part in pairs
    )
    averages: dict[str, Average] = {
        role: Average(role, *average(*zip(*of_role, strict=True)))
        for role in OOD_ROLES
        if (of_role := [pair[1:] for pair in pairs if pair[0].role == role])
    }
    ties = {split.name: part.ties for split, _, _, part in pairs}
    warnings = [
        *provenance.get("warnings", ()),
        *warnings_of(provenance.get("diagnostics", {}), ties),
    ]
    sides = [(split.name, ids, oods) for split, ids, oods, _ in pairs if ids is not oods]
    return Result(
        request,
        scores,
        fit_seconds,
        score_seconds,
        rows,
        averages,
        {**provenance, "ties": ties, "warnings": warnings},
        open_set=_open_set(splits, scores),
        components={
            split.name: components_of(own.scores, own.truth.pixels, ids.scale, part.pixels)
            for split, ids, own, part in pairs
            if split.role == "mixed" and isinstance(part, OfMembers)
            if own.truth.pixels is not None and part.pixels is not None
        },
        classes=_classes(id_split_of(splits), sides),
        samples={s.name: part.samples for s, _, _, part in pairs if isinstance(part, OfRows)},
        estimates={
            s.name: part.estimates for s, _, _, part in pairs if isinstance(part, OfMembers)
        },
        **_of_predictions(
            request, id_split_of(splits), scores, sides, asked, fit_seconds, score_seconds
        ),
    )


def _classes(
    split: ScoredSplit | None, sides: Sequence[tuple[str, Side, Side]]
) -> dict[str, Mapping[int, ClassMetrics]]:
    """Compare each class of the ID split with the OOD rows of each split, for images."""
    if split is None or split.truth.unit != "image":
        return {}
    known = split.labels != NO_CLASS
    if not known.any():
        return {}
    labels = split.labels[known]
    return {name: by_class(ids.scores[known], labels, oods.of(True)) for name, ids, oods in sides}


def _open_set(
    splits: Sequence[ScoredSplit], scores: Mapping[str, Array]
) -> dict[str, Mapping[str, Any]]:
    """Give the open-set metrics of each mixed split of boxes, where there is a threshold."""
    known = [split for role in ("id", "val") for split in splits if split.role == role]
    ids = known[0].side(scores[known[0].name]).of(False) if known else ()
    if not len(ids):
        return {}
    threshold = id_threshold(ids)
    return {
        split.name: open_set_of(scores[split.name], boxes, split.truth.image, threshold)
        for split in splits
        if split.role == "mixed"
        if (boxes := split.truth.boxes) is not None and boxes.objects is not None
    }


def _of_predictions(
    request: Request,
    split: ScoredSplit | None,
    scores: Mapping[str, Array],
    sides: Sequence[tuple[str, Side, Side]],
    asked: Measures,
    fit_seconds: float,
    score_seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Compare wrong predictions of the ID split with right ones, if there are both.

    As detection: Hendrycks & Gimpel 2017, arXiv:1610.02136, sec. 3.1; there the right ones are
    positive, which is ``aupr_in`` and ``fpr95_id`` here. And as selective prediction.

    Returns:
        The fields ``wrong`` and ``selective`` of a result.
    """
    if split is None:
        return {}
    right = split.known & (split.labels == split.predictions)
    wrong = split.known & ~right
    if not right.any() or not wrong.any():
        return {}
    own = split.side(scores[split.name])
    errors = own.with_errors(right, wrong)
    row = _row(
        request, replace(split, role=WRONG), contrast(errors, errors, asked, WRONG_SET),
        fit_seconds, score_seconds[split.name],
    )  # fmt: skip
    known, hits = own.scores[split.known], right[split.known]
    scod = {name: selective.aurc(known, hits, oods.of(True)) for name, _, oods in sides}
    found = Selective(
        selective.aurc(known, hits),
        selective.excess_aurc(known, hits),
        selective.augrc(known, hits),
        scod,
    )
    return {"wrong": row, "selective": found}


def _row(
    request: Request,
    split: ScoredSplit,
    part: Contrast,
    fit_seconds: float,
    score_seconds: float,
) -> Row:
    intervals = part.intervals()
    return Row(
        detector=request.detector,
        layer=request.layer,
        split=split.name,
        role=split.role,
        n_id=part.n_id,
        n_ood=part.n_ood,
        **part.metrics(),
        **{f"{name}_low": low for name, (low, _) in intervals.items()},
        **{f"{name}_high": high for name, (_, high) in intervals.items()},
        fit_seconds=fit_seconds,
        score_seconds=score_seconds,
        hyperparameters=request.hyperparameters,
    )
