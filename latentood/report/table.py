"""The comparison as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from latentood.errors import printable
from latentood.evaluation.comparison import (
    Average,
    Comparison,
    Result,
    Row,
    ScoredSplit,
    Unscored,
)
from latentood.evaluation.metrics.classes import LEAST_ROWS
from latentood.evaluation.uncertainty.predictions import quality_intervals

_ROWS = {"image": "rows", "cell": "cells", "box": "boxes"}


_MARKED = "; * the best, and all that a paired test cannot tell from it (Holm, 5%)"

_BEST = 10  # detectors in the tables about unknown objects; the results file has all

_UNKNOWN: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "open_set": (
        "unknown objects at the threshold that keeps 95% of ID boxes of {}:",
        {
            "recall": "recall_unknown",
            "precision": "precision_unknown",
            "AP": "ap_unknown",
            "AOSE": "aose",
            "nOSE": "nose",
            "WI": "wilderness_impact",
            "AP known": "ap_known",
            "AP50 known": "ap50_known",
        },
    ),
    "components": (
        "components at the threshold of the best pixel F1:",
        {"mean F1": "mean_f1", "sIoU": "siou", "PPV": "ppv", "true": "n_true",
         "predicted": "n_predicted"},
    ),
}  # fmt: skip
"""Field of a result → title and columns of its table."""


@dataclass(frozen=True)
class _Cells:
    """A table before it is drawn: the first two columns are texts, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def render(
    comparison: Comparison, *, terminal: bool = False, failed: bool = True
) -> RenderableType:
    """Lay out a comparison, best detector first, with lines and colours for a terminal only.

    Without ``failed`` the detectors that failed are left to the caller.
    """
    tables = _tables(comparison)
    notes = _notes(comparison, comparison.failed if failed else ())
    if terminal:
        return Group(*(_drawn(table) for table in tables), Text("\n".join(notes), style="dim"))
    return Text("\n\n".join([*map(_aligned, tables), "\n".join(notes)]), no_wrap=True)


def as_text(comparison: Comparison) -> str:
    """Lay out a comparison as plain aligned text."""
    return str(render(comparison))


def mean_over_splits(result: Result, name: str) -> float:
    """Average a metric, or an end of its interval, over the OOD splits, each with equal weight.

    Means of ends are the interval of fully correlated splits: never too narrow.
    """
    return float(sum(getattr(row, name) for row in result.rows) / len(result.rows))


def _tables(comparison: Comparison) -> list[_Cells]:
    ranked = comparison.ranked
    if not ranked:
        return []
    roles = list(ranked[0].averages)
    errors = ["AUROC wrong"] * any(_counts(result.wrong) for result in ranked)
    marks = ["* " if result.best else "" for result in ranked]
    named = [
        (mark + printable(comparison.title(one.request)), printable(one.request.layer))
        for mark, one in zip(marks, ranked, strict=True)
    ]
    tested = any(result.standings for result in ranked)
    summary = _Cells(
        f"mean over OOD splits [95% interval]{_MARKED if tested else ''}",
        (
            "detector",
            "layer",
            *(f"AUROC {role}" for role in roles),
            *errors,
            "FPR95-ood",
            "FPR95-id",
            "AUPR-out",
            "fit s",
            "score s",
        ),
        [
            (
                *name,
                *(_interval(result.averages[role]) for role in roles),
                *(_interval(result.wrong) if result.wrong else "" for _ in errors),
                *_rest(result),
            )
            for name, result in zip(named, ranked, strict=True)
        ],
    )
    by_split = _Cells(
        "AUROC by OOD split",
        ("detector", "layer", *(f"{printable(s.name)} ({s.role})" for s in comparison.ood_splits)),
        [(*name, *map(_interval, result.rows)) for name, result in zip(named, ranked, strict=True)],
    )
    return [summary, by_split, *_unknown_objects(comparison)]


def _unknown_objects(comparison: Comparison) -> list[_Cells]:
    """Lay out how well unknown objects of mixed splits are detected, by the best detectors."""
    best = comparison.ranked[:_BEST]
    more = f", the best {_BEST} detectors" if len(comparison.ranked) > _BEST else ""
    tables = []
    for kind, (title, columns) in _UNKNOWN.items():
        for split in comparison.ood_splits:
            values = [(one.request, getattr(one, kind).get(split.name)) for one in best]
            rows = [
                (
                    printable(comparison.title(request)),
                    printable(request.layer),
                    *(_number(metrics[name]) for name in columns.values()),
                )
                for request, metrics in values
                if metrics is not None
            ]
            if rows:
                about = f"{title.format(_calibrating(comparison))} {printable(split.name)}{more}"
                tables.append(_Cells(about, ("detector", "layer", *columns), rows))
    return tables


def _calibrating(comparison: Comparison) -> str:
    """Name the split that thresholds of boxes are from."""
    known = (split.name for split in comparison.splits if split.role in ("id", "val"))
    return printable(next(known, ""))


def _number(value: float | None) -> str:
    if value is None or value != value:
        return "—"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _interval(average: Average | Row) -> str:
    return _with_interval(average.auroc, average.auroc_low, average.auroc_high)


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _rest(result: Result) -> tuple[str, ...]:
    """Give the columns averaged over OOD splits, and the seconds."""
    columns = [
        [mean_over_splits(result, one) for one in (name, f"{name}_low", f"{name}_high")]
        for name in ("fpr95_ood", "fpr95_id", "aupr_out")
    ]
    seconds = (result.fit_seconds, result.total_score_seconds)
    return (*(_with_interval(*one) for one in columns), *(f"{spent:.3f}" for spent in seconds))


def _notes(comparison: Comparison, failed: Sequence[Unscored]) -> list[str]:
    shared = comparison.shared_seconds
    rows = ", ".join(f"{s.name} {len(s.labels):,} ({s.role})" for s in comparison.splits)
    notes = [
        f"{_ROWS[comparison.unit]}: {rows}",
        *_predictions(comparison),
        *_pixels(comparison),
        "FPR95-ood: share of ID at or above the threshold that catches 95% of OOD",
        "FPR95-id: share of OOD accepted at the threshold that keeps 95% of ID",
        f"seconds shared by all detectors: {shared['gather']:.3f} for statistics of the fit split, "
        f"{shared['read']:.3f} for reading rows to score",
        *_missing_metrics(comparison),
        *(f"failed: {_why(one)}" for one in failed),
        *(f"skipped: {_why(one)}" for one in comparison.skipped),
    ]
    return [printable(note) for note in notes]


def _pixels(comparison: Comparison) -> list[str]:
    """Say that metrics are of more than what was scored."""
    pixels = any(split.truth.pixels is not None for split in comparison.splits)
    what = "metrics are of pixels: scores of cells, enlarged to the size of the masks"
    return [what] if pixels else []


def _missing_metrics(comparison: Comparison) -> list[str]:
    """Say once why metrics of boxes are not there."""
    metrics = (of for result in comparison.results for of in result.open_set.values())
    return list(dict.fromkeys(one["note"] for one in metrics if one["note"]))


def _predictions(comparison: Comparison) -> list[str]:
    """Say how many predictions for the ID split are right, where that is known."""
    ids = comparison.id_split
    if ids is None:
        return []
    notes = [] if ids.accuracy is None else [_quality(ids, ids.accuracy)]
    wrong = next((one.wrong for one in comparison.results if _counts(one.wrong)), None)
    if wrong is not None:
        counts = f"{wrong.n_ood:,} wrong against {wrong.n_id:,} right predictions"
        notes.append(f"AUROC wrong: {counts} of {ids.name}")
    return notes


def _quality(ids: ScoredSplit, accuracy: float) -> str:
    """Say how good the predictions of the ID split are, with intervals where logits are known."""
    if ids.outputs is None:
        return f"ID accuracy: {accuracy:.4f} on {ids.name}"
    quality, intervals = ids.outputs.quality(), quality_intervals(ids.outputs)
    names = {"accuracy": "accuracy", "ece": "ECE", "brier": "Brier score", "nll": "NLL"}
    values = (
        f"{name} {_with_interval(getattr(quality, key), *intervals[key])}"
        for key, name in names.items()
    )
    return f"ID predictions on {ids.name}: {', '.join(values)}"


def _counts(wrong: Row | None) -> bool:
    """Whether there are enough wrong predictions to show; the results file has any."""
    return wrong is not None and wrong.n_ood >= LEAST_ROWS


def _why(one: Unscored) -> str:
    """Give the reason, which mostly but not always begins with the detector."""
    who = one.request.detector
    return one.reason if one.reason.startswith(who) else f"{who}: {one.reason}"


def _drawn(cells: _Cells) -> Table:
    table = Table(
        title=cells.title, title_justify="left", title_style="italic", header_style="bold"
    )
    for index, column in enumerate(cells.columns):
        table.add_column(column, justify="left" if index < 2 else "right", overflow="fold")
    for rank, row in enumerate(cells.rows):
        table.add_row(
            *map(Text, row), style="green" if rank == 0 or row[0].startswith("* ") else ""
        )
    return table


def _aligned(cells: _Cells) -> str:
    lines = [cells.columns, *cells.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([cells.title, *texts])
