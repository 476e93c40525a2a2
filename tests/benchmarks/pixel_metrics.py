"""Exact metrics of 10⁹ float16 pixels against one sort of a tenth as many float32 numbers.

``python -m tests.benchmarks.pixel_metrics`` measures the memory alone and fails above its limit.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.metrics.counts import METRICS
from tests.benchmarks.timing import Ratio, ratio

LIMIT = 200 << 20
BLOCK = 2048 * 1024  # pixels of a large image


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Count blocks that were drawn beforehand again and again, then compute the five metrics."""
    pixels = 10**8 if quick else 10**9
    scores, oods = drawn(5)
    numbers = np.random.default_rng(1).normal(size=pixels // 10).astype(np.float32)
    child = [sys.executable, "-m", "tests.benchmarks.pixel_metrics", str(pixels)]
    grew = subprocess.run(child, capture_output=True, text=True).stdout.strip()
    yield ratio(
        "metrics of pixels",
        lambda: metrics_of(scores, oods, pixels),
        lambda: np.sort(numbers),
        against="np.sort of a tenth as many float32",
        goal=1,
        detail=f"{pixels:,} float16 scores, 5 metrics, both in 1 thread; {grew}",
        pairs=3 if quick else 5,
    )


def drawn(blocks: int) -> tuple[list[NDArray[np.float16]], list[NDArray[np.uint8]]]:
    """Draw blocks of scores and of classes: 80% ID, 10% OOD, 10% ignored."""
    draw = np.random.default_rng(0)
    values = np.array([0, 1, 255], np.uint8)
    oods = [draw.choice(values, BLOCK, p=(0.8, 0.1, 0.1)) for _ in range(blocks)]
    return [draw.normal(ood == 1, 2).astype(np.float16) for ood in oods], oods


def metrics_of(
    scores: list[NDArray[np.float16]], oods: list[NDArray[np.uint8]], pixels: int
) -> list[float]:
    """Count as many pixels, the blocks in turn, and give the metrics."""
    histogram = ScoreHistogram()
    for start in range(0, pixels, BLOCK):
        block = start // BLOCK % len(scores)
        stop = min(BLOCK, pixels - start)
        histogram.add(scores[block][:stop], oods[block][:stop])
    return [getattr(histogram, name)() for name in METRICS]


def main() -> int:
    """Print by how much the process grows; exit status 1 above the limit."""
    pixels = int(sys.argv[1]) if len(sys.argv) > 1 else 10**9
    before = _memory("VmRSS")
    metrics_of(*drawn(1), pixels)
    grew = _memory("VmHWM") - before
    print(f"memory grew by {grew / 2**20:.0f} MiB, with the draw of a block")
    return int(grew > LIMIT)


def _memory(name: str) -> int:
    """Read a figure of this process; ``getrusage`` would give the peak of a parent before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


if __name__ == "__main__":
    sys.exit(main())
