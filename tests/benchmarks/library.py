"""The whole registry on the penultimate layer, with the cost of every detector."""

from __future__ import annotations

import time
from collections.abc import Iterator

from latentood.evaluation.comparison import Comparison
from latentood.evaluation.inputs.request import select
from latentood.evaluation.scoring import score_all
from latentood.latents.splits import SplitsInMemory
from tests.benchmarks.arrays import Classifier
from tests.benchmarks.timing import Ratio

SECONDS = 90.0
SETTINGS = ("lof.share=0.1",)
"""What grows faster than the rows is fitted on 5,000 of them, as one_class_svm is by itself."""


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Fit and score everything once, as ``latentood score --detectors all`` does."""
    classifier = Classifier()
    fit, scored = (2_000, 500) if quick else (50_000, 5_000)
    train = classifier.rows(fit, seed=1).complete("train", passes=False)
    splits = SplitsInMemory.of(
        train=("fit", train),
        val=("val", classifier.rows(scored, seed=10).complete("val", passes=True)),
        id=("id", classifier.rows(scored, seed=20).complete("id", passes=True)),
        far=("far", classifier.rows(scored, seed=30).complete("far", passes=True)),
    )
    selection = select("all", settings=SETTINGS, splits=splits)
    start = time.perf_counter()
    comparison = score_all(splits, selection.detectors, skipped=selection.skipped, device="cpu")
    spent = time.perf_counter() - start
    for left_out in (*comparison.failed, *comparison.skipped):
        print(f"- {left_out.request.detector} skipped: {left_out.reason}", flush=True)
    yield Ratio(
        name=f"the library: {len(comparison.results)} detectors, fit + score + metrics",
        rival=f"{SECONDS:g} s",
        median=spent / SECONDS,
        low=spent / SECONDS,
        high=spent / SECONDS,
        ours_seconds=spent,
        rival_seconds=SECONDS,
        goal=1.0,
        detail=f"{fit:,} × {classifier.width} fitted, {2 * scored:,} scored, once; "
        f"{', '.join(SETTINGS)}",
        parts=_parts(comparison),
    )


def _parts(comparison: Comparison) -> dict[str, float]:
    """Seconds of each detector, and of what is done once for all, most expensive first."""
    parts = {
        comparison.title(result.request): result.fit_seconds + result.total_score_seconds
        for result in comparison.results
    }
    parts |= {f"shared: {name}": spent for name, spent in comparison.shared_seconds.items()}
    return dict(sorted(parts.items(), key=lambda part: -part[1]))
