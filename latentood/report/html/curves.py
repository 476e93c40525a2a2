"""Curves of the scores of one detector, small enough for a page that holds all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentood.evaluation.metrics import Array, id_threshold
from latentood.latents.facts import ID, OOD
from latentood.report.html.scores import Rows

THRESHOLDS = 200
"""About how many thresholds a curve has; both thresholds of 95% are exact."""

BINS = 60
"""Of a histogram."""

_WHOLE = 10_000  # shares are whole numbers of this many parts
_REACH = 2.0  # spreads of the ID scores that the axis may reach beyond them


@dataclass(frozen=True)
class Series:
    """Rows whose curve is drawn: the ID rows of a split, or its OOD rows."""

    split: str
    role: str  # id for ID rows
    state: int  # 0 ID, 1 OOD
    against: int | None = None  # OOD rows: the number of the series of their ID rows

    def of(self, scores: Mapping[str, Array], rows: Mapping[str, Rows]) -> Array:
        """Give their scores."""
        own, ood = scores[self.split], rows[self.split].ood
        chosen: Array = own if ood is None else own[ood == self.state]
        return chosen


def series_of(roles: Mapping[str, str], rows: Mapping[str, Rows]) -> list[Series]:
    """List the rows to draw: ID rows first, and OOD rows of each split with theirs.

    A split of role mixed is left out where the file of scores does not say which rows are OOD.
    """
    ids = [Series(name, "id", ID) for name, role in roles.items() if role == "id"][:1]
    mixed = [one for one, role in roles.items() if role == "mixed" and rows[one].ood is not None]
    known = ids + [Series(name, "id", ID) for name in mixed]
    place = {one.split: number for number, one in enumerate(known)}
    oods = [
        Series(name, role, OOD, place[name] if role == "mixed" else 0)
        for name, role in roles.items()
        if name in mixed or (role in ("near", "far") and ids)
    ]
    return known + oods if oods else []


def curve_of(series: Sequence[Series], scores: Sequence[Array]) -> dict[str, Any]:
    """Give what is drawn of the scores of a detector.

    A row is flagged as OOD above a threshold. ``thresholds`` ascend; ``flagged`` has, for each
    series, the share of rows above each of them in parts of 10,000. ``kept`` is the place of the
    threshold that keeps 95% of the first ID rows, and ``caught`` the places of those that catch
    95% of the rows of each OOD series. ``counts`` are histograms over ``range``, in parts of
    10,000; rows beyond are in the outermost bins.

    Args:
        series: Which rows.
        scores: (n,) of each; finite, and none is empty.
    """
    ordered = [np.sort(one) for one in scores]
    whole = np.unique(np.concatenate(ordered))
    kept = id_threshold(ordered[0])
    caught = [
        _below(whole, -id_threshold(-values))
        for one, values in zip(series, ordered, strict=True)
        if one.against is not None
    ]
    grid = np.unique([*_quantiles(ordered), kept, *caught, whole[-1], _below(whole, whole[0])])
    flagged = [1 - np.searchsorted(one, grid, side="right") / one.size for one in ordered]
    low, high = _range(ordered)
    edges = np.linspace(low, high, BINS + 1)
    counts = [np.histogram(np.clip(one, low, high), edges)[0] / one.size for one in ordered]
    return {
        "thresholds": [float(f"{value:.6g}") for value in grid],
        "flagged": [_parts(one) for one in flagged],
        "kept": int(np.searchsorted(grid, kept)),
        "caught": np.searchsorted(grid, caught).tolist(),
        "range": [float(f"{low:.6g}"), float(f"{high:.6g}")],
        "counts": [_parts(one) for one in counts],
    }


def rank_correlation(scores: Array) -> tuple[Array, list[int]]:
    """Give Spearman's correlation of detectors, and an order that puts similar ones together.

    The order is that of the leaves of average-linkage clustering by 1 − ρ, with neighbours as
    similar as possible (Bar-Joseph, Gifford & Jaakkola 2001). A detector whose scores are all equal
    has a correlation of 0 with the others.

    Args:
        scores: (K, N), higher = more OOD.

    Returns:
        (K, K) in [−1, 1], and the K numbers of the order.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.stats import rankdata

    ranks = rankdata(scores, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    unit = np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0)
    correlation = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(correlation, 1)
    if len(scores) < 3:
        return correlation, list(range(len(scores)))
    distances = (1 - correlation)[np.triu_indices(len(scores), 1)]
    tree = linkage(np.maximum(distances, 0), "average", optimal_ordering=True)
    return correlation, leaves_list(tree).tolist()


def percentiles(scores: Mapping[str, Array], points: Mapping[str, Any]) -> list[int]:
    """Give the share of all rows below each of some rows, in percent."""
    whole = np.sort(np.concatenate([scores[name] for name in scores]))
    chosen = np.concatenate([scores[name][rows] for name, rows in points.items()])
    values: list[int] = (100 * np.searchsorted(whole, chosen) // whole.size).tolist()
    return values


def _below(whole: Array, threshold: float) -> float:
    """Give the highest score below a threshold: rows above it are those at or above that."""
    place = int(np.searchsorted(whole, threshold))
    spread = float(whole[-1] - whole[0]) or 1.0
    return float(whole[place - 1]) if place else float(whole[0]) - 0.01 * spread


def _quantiles(ordered: Sequence[Array]) -> Array:
    """Choose thresholds among the scores: as many of each series, evenly by rank."""
    count = max(20, THRESHOLDS // len(ordered))
    return np.concatenate([
        one[np.linspace(0, one.size - 1, min(count, one.size)).round().astype(int)]
        for one in ordered
    ])  # fmt: skip


def _range(ordered: Sequence[Array]) -> tuple[float, float]:
    """Choose an axis: nearly all ID rows, and OOD rows while these stay within reach."""
    low, high = np.quantile(ordered[0], (0.005, 0.995)).tolist()
    reach = _REACH * (high - low) or np.inf
    first, last = low - reach, high + reach
    for values in ordered:
        start, end = np.quantile(values, (0.01, 0.99)).tolist()
        low, high = min(low, max(start, first)), max(high, min(end, last))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _parts(shares: Array) -> list[int]:
    values: list[int] = np.round(_WHOLE * shares).astype(int).tolist()
    return values
