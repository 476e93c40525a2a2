"""Metrics with intervals and paired tests of all detectors against scikit-learn's bare metrics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from latentood.evaluation import metrics
from latentood.evaluation.uncertainty.independent import mean_auroc, pooled_rows
from latentood.evaluation.uncertainty.paired import (
    Paired,
    indistinguishable,
    paired_auroc,
    paired_bootstrap,
)
from latentood.evaluation.uncertainty.resampling import Resamples, intervals, resampled
from tests.benchmarks.timing import Ratio, ratio

NAMES = ("aupr_out", "aupr_in", "fpr95_ood", "fpr95_id")
DETECTORS, SETS, ROWS, RESAMPLES = 50, 6, 10_000, 1000

Scores = NDArray[np.float64]


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Compare 50 detectors on 6 OOD sets; scikit-learn has a tenth of the work."""
    detectors = 5 if quick else DETECTORS
    ids, sets = drawn(detectors)
    few = max(1, detectors // 10)
    yield ratio(
        "intervals and paired tests",
        lambda: with_intervals(ids, sets),
        lambda: bare(ids[:few], [one[:few] for one in sets]),
        against="scikit-learn's metrics without intervals",
        goal=10,
        detail=f"{detectors} detectors × {SETS} OOD sets × {ROWS:,} ID and as many OOD rows, "
        f"{RESAMPLES:,} resamples, all pairs of detectors, both in 1 thread",
        pairs=1,
        rival_share=few / detectors,
    )


def drawn(detectors: int) -> tuple[Scores, list[Scores]]:
    """Draw scores that are correlated in each row: (D, n) of ID, and (D, m) of each OOD set."""
    draw = np.random.default_rng(0)
    sides = []
    for shift in range(SETS + 1):
        own = draw.normal(shift / 2, 0.5, (detectors, ROWS))
        sides.append(own + draw.normal(0, 0.8, ROWS))
    return sides[0], sides[1:]


def with_intervals(ids: Scores, sets: list[Scores]) -> list[Paired]:
    """Give the tests of all metrics, averaged over the sets; on the way all intervals."""
    rows = ids.shape[1]
    draws = [Resamples.of(rows, sets[0].shape[1], resamples=RESAMPLES)]
    draws += [draws[0].beside(one.shape[1], number) for number, one in enumerate(sets[1:], 1)]
    totals = {name: np.zeros((len(ids), RESAMPLES)) for name in NAMES}
    values = {name: np.zeros(len(ids)) for name in NAMES}
    for row in range(len(ids)):
        mean_auroc(ids[row], [one[row] for one in sets])
        for resamples, one in zip(draws, sets, strict=True):
            samples = resampled(resamples, ids[row], one[row])
            intervals(resamples, ids[row], one[row], samples)
            for name in NAMES:
                totals[name][row] += samples[name] / len(sets)
                values[name][row] += getattr(metrics, name)(ids[row], one[row]) / len(sets)
    sizes = rows, pooled_rows([one.shape[1] for one in sets])
    tests = [paired_auroc(ids, sets)]
    tests += [paired_bootstrap(values[name], totals[name], sizes, name) for name in NAMES]
    for test in tests:
        indistinguishable(test.values, test.p_values)
    return tests


def bare(ids: Scores, sets: list[Scores]) -> list[float]:
    """Give five metrics of scikit-learn for each detector and set."""
    values = []
    for row in range(len(ids)):
        for one in sets:
            scores = np.concatenate([ids[row], one[row]])
            ood = np.repeat([0, 1], [ids.shape[1], one.shape[1]])
            alarms, caught, _ = roc_curve(ood, scores)
            missed, kept, _ = roc_curve(1 - ood, -scores)
            values += [
                roc_auc_score(ood, scores),
                average_precision_score(ood, scores),
                average_precision_score(1 - ood, -scores),
                alarms[np.searchsorted(caught, 0.95)],
                missed[np.searchsorted(kept, 0.95)],
            ]
    return values
