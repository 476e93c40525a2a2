"""Signs that a metric may be unreliable, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from latentood.evaluation.metrics import Array
from latentood.evaluation.metrics.classes import LEAST_ROWS

MOST_TIES = 0.01
LEAST_RECALL = 0.95
WORST_CONDITION = 1e12
_SPANNED_BY = {
    "rank": "the fit rows span",
    "class_rank": "the rows of a class span",
    "component_rank": "the rows of a component span",
}
"""Ranks of rows by their names in diagnostics; of other ranks, such as a head's, none is short."""


def tie_rate(id_scores: Array, ood_scores: Array) -> float:
    """Share of pairs of an ID and an OOD row with the same score: each counts ½ in the AUROC."""
    values, counts = np.unique(id_scores, return_counts=True)
    place = np.searchsorted(values, ood_scores).clip(max=len(values) - 1)
    ties = counts[place][values[place] == ood_scores].sum()
    return float(ties / (id_scores.size * ood_scores.size))


def few_rows(counts: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Warn of splits with too few rows for FPR95, given their names and numbers of rows."""
    return tuple(
        f"{split} has {rows} row{'s' * (rows > 1)}, and FPR95 needs {LEAST_ROWS} or more: see how "
        "wide the intervals are, and extract more of them"
        for split, rows in counts
        if rows < LEAST_ROWS
    )


def warnings_of(diagnostics: Mapping[str, Any], ties: Mapping[str, float]) -> tuple[str, ...]:
    """Warn of what a fit, or the members of a fusion, report, and of many ties in a split."""
    tied = (
        f"{rate:.1%} of the pairs of an ID and a {split} row have the same score"
        for split, rate in ties.items()
        if rate > MOST_TIES
    )
    return (*_of_fit(diagnostics), *tied)


def _of_fit(diagnostics: Mapping[str, Any], who: str = "") -> Iterator[str]:
    width = diagnostics.get("width")
    for name, spanned_by in _SPANNED_BY.items():
        rank = diagnostics.get(name)
        if isinstance(rank, int) and isinstance(width, int) and rank < width:
            yield f"{who}{spanned_by} {rank} of {width} dimensions: extract more of them"
    condition = diagnostics.get("condition")
    if isinstance(condition, float) and condition > WORST_CONDITION:
        yield (
            f"{who}the covariance has a condition number of {condition:.1e}: raise ridge above 1e-6"
        )
    recall = diagnostics.get("recall")
    if isinstance(recall, float) and recall < LEAST_RECALL:
        yield f"{who}the index finds {recall:.1%} of the true neighbours: raise effort"
    for name, part in diagnostics.items():
        if isinstance(part, Mapping):
            yield from _of_fit(part, f"{who}{name}: ")
