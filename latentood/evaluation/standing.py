"""Which detectors cannot be told from the best one: paired tests on the rows that all have scored.

Rows that are independent have the tests of :mod:`latentood.evaluation.uncertainty.paired`, members
of images those of :mod:`latentood.evaluation.uncertainty.clustered_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from latentood.evaluation.comparison import (
    Result,
    Row,
    ScoredSplit,
    Standing,
    pairs_of,
)
from latentood.evaluation.contrast import Side
from latentood.evaluation.metrics import Array
from latentood.evaluation.uncertainty.clustered_metrics import (
    Difference,
    Estimate,
    difference,
    mean_estimate,
)
from latentood.evaluation.uncertainty.independent import pooled_rows
from latentood.evaluation.uncertainty.paired import (
    Paired,
    combined,
    holm_against,
    paired_auroc,
    paired_bootstrap,
)

LEVEL = 0.05
"""Of all tests against the best detector together."""

RANKED = "mean"
"""The average that detectors are ranked by: of roles, each with equal weight."""

_ERRORS = ("fpr95_ood", "fpr95_id", "detection_error")  # low is good
LEAST = 2  # rows of a side

Weights = Mapping[str, float]
"""OOD split → its weight in an average."""

Pair = tuple[int, int]
"""Places of two results."""


def with_standings(splits: Sequence[ScoredSplit], results: Sequence[Result]) -> tuple[Result, ...]:
    """Test each detector against the best one, for the averages that tables show.

    Args:
        splits: What was scored.
        results: All with scores of all splits.

    Returns:
        The results, with standings; without any where there is a single result, or where a split
        has a single row of a side.
    """
    rows = [row for result in results for row in result.rows]
    if len(results) < 2 or min(min(row.n_id, row.n_ood) for row in rows) < LEAST:
        return tuple(results)
    test = RowTests(splits, results) if results[0].samples else MemberTests(results)
    every = {
        what: _standings(*test.against_best(metric, weights), metric)
        for what, metric, weights in _averages(results)
    }
    return tuple(
        replace(result, standings={what: of_all[place] for what, of_all in every.items()})
        for place, result in enumerate(results)
    )


def averages_of(rows: Sequence[Row]) -> dict[str, Weights]:
    """Give the weights of OOD splits in the mean that detectors are ranked by, and of each role."""
    roles: dict[str, list[str]] = {}
    for row in rows:
        roles.setdefault(row.role, []).append(row.split)
    means = {role: dict.fromkeys(names, 1 / len(names)) for role, names in roles.items()}
    ranked = {name: w / len(roles) for mean in means.values() for name, w in mean.items()}
    return {RANKED: ranked, **means}


def _averages(results: Sequence[Result]) -> Iterator[tuple[str, str, Weights]]:
    """Name what is averaged, its metric, and how."""
    own = results[0].rows
    for what, weights in averages_of(own).items():
        yield "auroc" if what == RANKED else f"auroc.{what}", "auroc", weights
    for metric in ("fpr95_ood", "fpr95_id", "aupr_out"):
        yield metric, metric, dict.fromkeys((row.split for row in own), 1 / len(own))


def _standings(values: Array, p_values: Array, metric: str) -> tuple[Standing, ...]:
    """Correct the p-values of the tests against the best."""
    best = best_of(values, metric)
    return tuple(
        Standing(True, None) if place == best else Standing(bool(p > LEVEL), float(p))
        for place, p in enumerate(holm_against(best, p_values))
    )


def best_of(values: Array, metric: str) -> int:
    """Give the place of the best value."""
    return int(np.argmin(values) if metric in _ERRORS else np.argmax(values))


class RowTests:
    """Tests of rows that are independent."""

    def __init__(self, splits: Sequence[ScoredSplit], results: Sequence[Result]) -> None:
        self.results = results
        pairs = [list(pairs_of(splits, result.scores)) for result in results]
        names = [split.name for split, _, _ in pairs[0]]
        self.sides: dict[str, list[tuple[Side, Side]]] = {
            name: [(one[place][1], one[place][2]) for one in pairs]
            for place, name in enumerate(names)
        }

    def against_best(self, metric: str, weights: Weights) -> tuple[Array, Array]:
        """Give the values of all detectors, and p-values of their tests against the best."""
        paired = self._paired(metric, weights)
        return paired.values, paired.p_values[best_of(paired.values, metric)]

    def differences(self, metric: str, weights: Weights, pairs: Sequence[Pair]) -> list[Difference]:
        """Compare some pairs, by their places: the first less the second."""
        paired = self._paired(metric, weights)
        p_values = paired.p_values
        return [Difference(*paired.difference(*pair), float(p_values[pair])) for pair in pairs]

    def _paired(self, metric: str, weights: Weights) -> Paired:
        return self._auroc(weights) if metric == "auroc" else self._resampled(metric, weights)

    def _auroc(self, weights: Weights) -> Paired:
        shared = [name for name in weights if self._shares(name)]
        parts = [[name] for name in weights if name not in shared] + ([shared] if shared else [])
        return combined([self._of_splits(part, weights) for part in parts])

    def _shares(self, split: str) -> bool:
        """Whether the ID rows of a split are those of the ID split."""
        ids, oods = self.sides[split][0]
        return ids is not oods

    def _of_splits(self, names: Sequence[str], weights: Weights) -> Paired:
        ids = np.stack([ids.of(False) for ids, _ in self.sides[names[0]]])
        sets = [np.stack([oods.of(True) for _, oods in self.sides[name]]) for name in names]
        return paired_auroc(ids, sets, [weights[name] for name in names])

    def _resampled(self, metric: str, weights: Weights) -> Paired:
        values = np.array([_mean_of(result, metric, weights) for result in self.results])
        samples = [one.samples for one in self.results]
        # Of very many rows there are fewer samples; the first ones share their ID draws.
        shared = min(len(samples[0][name][metric]) for name in weights)
        drawn = sum(
            w * np.stack([own[name][metric][:shared] for own in samples])
            for name, w in weights.items()
        )
        own = [row for row in self.results[0].rows if row.split in weights]
        sizes = np.array([row.n_ood for row in own])
        rows = min(row.n_id for row in own), pooled_rows(sizes)
        return paired_bootstrap(values, drawn, rows, metric)


class MemberTests:
    """Tests of members that are correlated within their images."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results

    def against_best(self, metric: str, weights: Weights) -> tuple[Array, Array]:
        """Give the values of all detectors, and p-values of their tests against the best."""
        means = self._means(metric, weights)
        values = np.array([one.value for one in means])
        best = means[best_of(values, metric)]
        return values, np.array([difference(one, best).p for one in means])

    def differences(self, metric: str, weights: Weights, pairs: Sequence[Pair]) -> list[Difference]:
        """Compare some pairs, by their places: the first less the second."""
        means = self._means(metric, weights)
        return [difference(means[one], means[other]) for one, other in pairs]

    def _means(self, metric: str, weights: Weights) -> list[Estimate]:
        shares = list(weights.values())
        return [
            mean_estimate([result.estimates[name][metric] for name in weights], shares)
            for result in self.results
        ]


def _mean_of(result: Result, metric: str, weights: Weights) -> float:
    values = {row.split: getattr(row, metric) for row in result.rows}
    return float(sum(values[name] * w for name, w in weights.items()))
