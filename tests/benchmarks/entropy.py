"""Latent entropy against one entropy_estimators call per column."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from latentood.stats.entropy import kl_entropy
from tests.benchmarks.timing import Ratio, ratio


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Measure 1,000 rows of 512 dimensions over 16 passes; the rival does 1% of its columns."""
    samples = torch.randn(1000, 16, 512, generator=torch.Generator().manual_seed(0))
    few = samples[:10]
    yield ratio(
        "Kozachenko-Leonenko entropy",
        lambda: kl_entropy(samples),
        lambda: kl_entropy(few, backend="entropy_estimators"),
        against="entropy_estimators.get_h, max norm, per column",
        goal=1 / 100,
        detail="1,000 rows × 512 dimensions × T=16 (rival timed on 1% and scaled)",
        pairs=3 if quick else 5,
        rival_share=0.01,
    )
