"""What the charts of a report show, as JSON values for its script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentood.errors import printable
from latentood.evaluation import metrics
from latentood.evaluation.metrics import Array
from latentood.report.html.curves import (
    Series,
    curve_of,
    percentiles,
    rank_correlation,
    series_of,
)
from latentood.report.html.document import Document, Entry, Line, mixed_up, number
from latentood.report.html.extras import Extras
from latentood.report.results import plain

if TYPE_CHECKING:
    from latentood.evaluation.choice.convergence import Point

_MOST_CURVES = 1500  # of a page: 200 thresholds each
_MOST_RANKED = 100  # detectors of the matrix of correlations
_MOST_SCORES = 20_000_000  # in memory for it

Panel = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What one read of all scores gives."""

    curves: Sequence[Panel | None]  # of each detector; None where its scores cannot be drawn
    series: Sequence[Series]
    correlation: Panel | None
    percentiles: Sequence[Sequence[int]]  # of each detector, of the points of the projection


def see(document: Document, extras: Extras) -> Seen:
    """Read the scores of all detectors, one after another.

    Raises:
        ConfigError: They are of another comparison than the results.
    """
    rows, roles = document.scores.rows, document.roles
    series = series_of(roles, rows)
    drawn = _MOST_CURVES // max(len(series), 1)
    total = sum(len(one.ids) for one in rows.values())
    step = -(-total * min(len(document.entries), _MOST_RANKED) // _MOST_SCORES)
    curves: list[Panel | None] = []
    ranked: list[Array] = []
    places: list[list[int]] = []
    for place, entry in enumerate(document.entries):
        scores = document.scores.of(entry.name)
        _require_shapes(document, entry, scores)
        whole = np.concatenate([scores[name] for name in rows])
        sides = [one.of(scores, rows) for one in series]
        usable = bool(np.isfinite(whole).all()) and all(one.size for one in sides) and bool(sides)
        if usable:
            _require_same(document, entry, series, sides)
        curves.append(curve_of(series, sides) if usable and place < drawn else None)
        if place < _MOST_RANKED:
            ranked.append(whole[:: max(step, 1)])
        places.append(percentiles(scores, extras.points) if extras.points else [])
    return Seen(curves, series, _correlation(ranked, len(document.entries), step), places)


def data_of(document: Document, extras: Extras, seen: Seen) -> dict[str, Any]:
    """Give all that the script of the page draws."""
    return {
        "detectors": [
            {
                "title": entry.label,
                "averages": {role: _averaged(one) for role, one in entry.averages.items()},
                "rows": {
                    printable(split): {
                        name: plain(row[name]) for name in ("fpr95_ood", "fpr95_id", "auroc")
                    }
                    for split, row in entry.rows.items()
                },
                "cost": plain(dict(entry.cost)),
                "quality": plain(entry.mean_auroc),
            }
            for entry in document.entries
        ],
        "series": [
            {"split": printable(one.split), "role": one.role, "against": one.against}
            for one in seen.series
        ],
        "curves": seen.curves,
        "correlation": seen.correlation,
        "projection": _projection(document, extras, seen),
        "convergence": _convergence(extras.convergence),
        "reliability": None if extras.reliability is None else plain(vars(extras.reliability)),
    }


def _require_shapes(document: Document, entry: Entry, scores: Mapping[str, Array]) -> None:
    lengths = {name: len(one.ids) for name, one in document.scores.rows.items()}
    own = {name: len(one) for name, one in scores.items()}
    if own != lengths:
        raise mixed_up(document, f"{entry.label} has {own} rows, not {lengths}")


def _require_same(
    document: Document, entry: Entry, series: Sequence[Series], sides: Sequence[Array]
) -> None:
    """Compare the AUROC of the scores with that of the results, where the same rows count."""
    for one, oods in zip(series, sides, strict=True):
        if one.against is None:
            continue
        row, ids = entry.rows.get(one.split), sides[one.against]
        if row is None:
            raise mixed_up(document, f"{one.split} is in one of them only")
        if document.unit != "image":  # the pixels of cells may count in their place
            continue
        counts, own = (row["n_id"], row["n_ood"]), metrics.auroc(ids, oods)
        if counts != (ids.size, oods.size) or abs(number(row["auroc"]) - own) > 1e-9:
            raise mixed_up(
                document,
                f"{entry.label} on {one.split} has AUROC {own:.6f} of {ids.size} and {oods.size} "
                f"rows, not {number(row['auroc']):.6f} of {counts[0]} and {counts[1]}",
            )


def _averaged(one: Line) -> list[Any]:
    return [plain(one.get(name)) for name in ("auroc", "auroc_low", "auroc_high")]


def _correlation(ranked: Sequence[Array], detectors: int, step: int) -> Panel | None:
    """Give the matrix, and what it leaves out."""
    if len(ranked) < 2 or not all(np.isfinite(one).all() for one in ranked):
        return None
    matrix, order = rank_correlation(np.stack(ranked))
    percent = np.round(100 * matrix[np.ix_(order, order)]).astype(int)
    left_out = [f"the first {len(ranked)} detectors"] * (len(ranked) < detectors)
    left_out += [f"one of {step} rows"] * (step > 1)
    note = f" Of {' and '.join(left_out)} only." if left_out else ""
    return {"order": order, "percent": percent.tolist(), "note": note}


def _projection(document: Document, extras: Extras, seen: Seen) -> Panel | None:
    if not extras.projections:
        return None
    splits = list(extras.points)
    return {
        "splits": [
            {"name": printable(name), "role": document.roles[name], "points": len(rows)}
            for name, rows in extras.points.items()
        ],
        "of": [split for split, name in enumerate(splits) for _ in extras.points[name]],
        "maps": [
            {"name": one.name, "about": one.about, "xy": _whole(one.xy)}
            for one in extras.projections
        ],
        "percentiles": seen.percentiles,
    }


def _whole(xy: Array) -> list[list[int]]:
    """Scale points to whole numbers from 0 to 1000, the same on both axes."""
    low = xy.min(axis=0)
    spread = float((xy.max(axis=0) - low).max()) or 1.0
    values: list[list[int]] = np.round(1000 * (xy - low) / spread).astype(int).tolist()
    return values


def _convergence(points: Sequence[Point]) -> list[Panel]:
    """Give a line for each detector, layer and role: AUROC by number of passes."""
    lines: dict[tuple[str, str, str], list[Point]] = {}
    for one in points:
        if not one.split:  # the average of a role
            lines.setdefault((one.detector, one.layer, one.role), []).append(one)
    return [
        {
            "title": printable(f"{detector} · {layer}"),
            "role": role,
            "passes": [one.passes for one in own],
            "values": [[one.auroc, one.auroc_low, one.auroc_high] for one in own],
        }
        for (detector, layer, role), own in lines.items()
    ]
