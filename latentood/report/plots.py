"""Figures of a comparison (ROC curves, score histograms, a ranking of detectors) and a training.

Pure functions from results to figures. They never touch pyplot, whose list of open figures is
global: a figure made here is freed with its last reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentood.errors import printable
from latentood.evaluation.comparison import Comparison, Result, Row
from latentood.evaluation.metrics import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008: distinct with any colour vision, and in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ID_COLOUR = "#6F6F6F"
_LINES: Mapping[str, Any] = {"near": (0, (4, 1.5)), "far": "solid", "mixed": (0, (1, 1))}
_POINTS = 1000
_BINS = 60
_REACH: Mapping[str, float] = {"near": 2, "far": 1, "mixed": 2}
"""How many times the spread of the ID scores an axis may reach beyond them, for a role."""

Sides = Mapping[str, tuple[Array, Array]]
"""Split with OOD rows → the ID and the OOD scores that are compared."""


def roc(result: Result, sides: Sides, title: str) -> Figure:
    """Draw an ROC curve per OOD split: OOD rows caught over ID rows flagged."""
    figure, axes = _canvas(5.6, 5.2, title)
    axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle=":", zorder=1)
    for row, colour in _coloured(result.rows):
        flagged, caught = roc_curve(*sides[row.split])
        interval = f"[{row.auroc_low:.3f}, {row.auroc_high:.3f}]"
        axes.plot(
            flagged, caught, color=colour, linestyle=_LINES[row.role], linewidth=1.8,
            label=f"{_name(row)}  {row.auroc:.3f} {interval}",
        )  # fmt: skip
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    axes.set_xlabel("share of ID flagged as OOD")
    axes.set_ylabel("share of OOD caught")
    axes.legend(loc="lower right", title="AUROC [95% interval]", **_LEGEND)
    return figure


def histogram(result: Result, sides: Sides, title: str) -> Figure:
    """Draw the scores of each split as shares of rows per bin, and the ID quantile of 95%."""
    figure, axes = _canvas(8.4, 4.2, title)
    distinct = {id(ids): ids for ids, _ in sides.values()}  # mostly those of one split
    id_scores = np.concatenate(list(distinct.values()))
    edges = np.linspace(*_range(id_scores, result, sides), _BINS + 1)
    axes.stairs(
        _shares(id_scores, edges), edges, fill=True, color=_ID_COLOUR, alpha=0.45,
        label=f"ID{_beyond(id_scores, edges)}",
    )  # fmt: skip
    for row, colour in _coloured(result.rows):
        scores = sides[row.split][1]
        axes.stairs(
            _shares(scores, edges), edges, color=colour, linestyle=_LINES[row.role],
            linewidth=1.6, label=f"{_name(row)}{_beyond(scores, edges)}",
        )  # fmt: skip
    kept = float(np.quantile(id_scores, 0.95, method="inverted_cdf"))
    axes.axvline(kept, color="#333333", linewidth=1, linestyle=":", label="95% of ID at or below")
    axes.set_xlim(edges[0], edges[-1])
    every = [id_scores, *(oods for _, oods in sides.values())]
    axes.set_ylim(0, _top(every, edges))
    beyond = any(_beyond(scores, edges) for scores in every)
    note = "; rows beyond the axis are in the outermost bins" if beyond else ""
    axes.set_xlabel(f"score (higher = more OOD{note})")
    axes.set_ylabel("share of rows")
    figure.legend(loc="outside right upper", **_LEGEND)  # inside the axes it would cover some tail
    return figure


def ranking(comparison: Comparison) -> Figure:
    """Draw near and far AUROC of every detector × layer with their intervals, best on top."""
    ranked = comparison.ranked
    figure, axes = _canvas(7.6, 2.2 + 0.22 * len(ranked), "AUROC, mean over OOD splits")
    places = np.arange(len(ranked))
    for band in places[1::2]:  # leads the eye from a name to its points
        axes.axhspan(band - 0.5, band + 0.5, color="#F3F3F3", zorder=0)
    axes.axvline(0.5, color="#333333", linewidth=1, linestyle=":", label="chance")
    shifts = {"near": -0.14, "far": 0.14, "mixed": 0}
    styles = {
        "near": ("s", _COLOURS[1]),
        "far": ("o", _COLOURS[0]),
        "mixed": ("D", _COLOURS[2]),
    }
    for role, (marker, colour) in styles.items():
        averages = [result.averages.get(role) for result in ranked]
        if any(average is None for average in averages):
            continue
        values = np.array([[a.auroc_low, a.auroc, a.auroc_high] for a in averages if a]).T
        axes.errorbar(
            values[1], places + shifts[role], xerr=np.abs(values[[0, 2]] - values[1]), fmt=marker,
            color=colour, markersize=4, elinewidth=1.2, label=f"{role} OOD, 95% interval",
        )  # fmt: skip
    names = [f"{comparison.title(result.request)} · {result.request.layer}" for result in ranked]
    axes.set_yticks(places, [plain(name) for name in names], fontsize=8)
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_xlabel("AUROC")
    axes.tick_params(axis="x", top=True, labeltop=True)  # the lower axis may be a screen away
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=3, **_LEGEND)
    return figure


def certainty(statistics: Mapping[str, Any], title: str) -> Figure:
    """Draw uncertainty and probability of right and of wrong predictions, as shares of each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=120, layout="constrained")
    figure.suptitle(plain(title), fontsize=11, x=0.01, ha="left")
    labels = {
        "uncertainty": "uncertainty of the network's head",
        "probability": "probability of the predicted class",
    }
    for axes, (name, label) in zip(figure.subplots(1, len(labels)), labels.items(), strict=True):
        _style(axes)
        histogram = statistics[name]
        for group, colour in (("right", _COLOURS[0]), ("wrong", _COLOURS[1])):
            rows = statistics["rows"][group]
            axes.stairs(
                np.array(histogram[group]) / max(rows, 1), histogram["edges"], color=colour,
                fill=True, alpha=0.45, label=f"{group} ({rows} rows)",
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.set_ylabel("share of rows")
        axes.legend(**_LEGEND)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; faster than ``savefig``, which draws it twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(path)


def roc_curve(id_scores: Array, ood_scores: Array) -> tuple[Array, Array]:
    """Give shares of ID flagged and of OOD caught at falling thresholds, about 1000 at most."""
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))[::-1]
    if thresholds.size > _POINTS:  # more than a screen can show
        kept = np.linspace(0, thresholds.size - 1, _POINTS).round().astype(int)
        thresholds = thresholds[kept]
    shares = [
        1 - np.searchsorted(np.sort(scores), thresholds, side="left") / scores.size
        for scores in (id_scores, ood_scores)
    ]
    flagged, caught = (np.concatenate([[0.0], share]) for share in shares)
    return flagged, caught


_LEGEND: Mapping[str, Any] = {
    "fontsize": 8,
    "title_fontsize": 8,
    "frameon": True,
    "framealpha": 0.9,
    "edgecolor": "none",
}


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plain(title), fontsize=11, loc="left", wrap=True)
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E8E8E8", linewidth=0.8)
    axes.set_axisbelow(True)


def _coloured(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    return [(row, _COLOURS[index % len(_COLOURS)]) for index, row in enumerate(rows)]


def _name(row: Row) -> str:
    return f"{plain(row.split)} ({row.role})"


def plain(text: str) -> str:
    """Write a name so that nothing in it is drawn as a formula."""
    return printable(text).replace("$", r"\$")


def _shares(scores: Array, edges: Array) -> Array:
    """Count rows per bin; those beyond the axis go into the outermost bins."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return np.asarray(counts / scores.size)


def _beyond(scores: Array, edges: Array) -> str:
    """Say which share of rows lies beyond either end of the axis, if any does."""
    low, high = np.mean(scores < edges[0]), np.mean(scores > edges[-1])
    left, right = f", ← {low:.1%}" if low else "", f", {high:.1%} →" if high else ""
    return left + right


def _top(every: Sequence[Array], edges: Array) -> float:
    """Choose a height for the rows on the axis; those beyond pile up, and may be cut off."""
    return 1.08 * max(float(np.histogram(one, edges)[0].max()) / one.size for one in every)


def _range(id_scores: Array, result: Result, sides: Sides) -> tuple[float, float]:
    """Choose an axis for nearly all ID and near rows, and for far rows while these stay wide."""
    first, last = low, high = np.quantile(id_scores, [0.005, 0.995])
    for row in result.rows:
        reach = _REACH[row.role] * (last - first) or np.inf
        start, end = np.quantile(sides[row.split][1], [0.01, 0.99])
        low, high = min(low, max(start, first - reach)), max(high, min(end, last + reach))
    if high <= low:  # one score for all rows
        low, high = low - 0.5, high + 0.5
    return float(low), float(high)
