"""Peak memory of fitting from a stream: python -m tests.benchmarks.memory [ROWS] [WIDTH].

Without arguments 1,000,000 × 2,048 in float16, 4 GB if it were held; must stay under 3 GiB.
"""

import resource
import sys
import time

import torch

from latentood.detectors.registry import detector
from latentood.evaluation.scoring import score_all
from latentood.evaluation.splits import SplitsInMemory
from latentood.latents import Latents

LIMIT = 3 << 30
CLASSES = 10
DRAWN = 4093  # a prime, so that no order repeats soon


class Generated:
    """Rows that are made when they are read, float16, and the same each time."""

    def __init__(self, rows: int, width: int, seed: int) -> None:
        self.shape = (rows, width)
        draw = torch.Generator().manual_seed(seed)
        self.drawn = torch.randn(DRAWN, width, generator=draw).half()

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Repeat the drawn rows in another order; drawing all of them would take the time."""
        return self.drawn[torch.arange(start, stop) * 7919 % DRAWN]


class Labels:
    """Classes in turn."""

    def __init__(self, rows: int) -> None:
        self.shape = (rows,)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Give the classes of some rows."""
        return torch.arange(start, stop) % CLASSES


def generated(rows: int, width: int, seed: int, name: str) -> Latents:
    """Give a split that is nowhere."""
    arrays = {
        "features/penultimate": Generated(rows, width, seed),
        "logits": Generated(rows, CLASSES, seed + 100),
        "labels": Labels(rows),
    }
    head = (torch.randn(CLASSES, width), torch.zeros(CLASSES))
    return Latents.from_rows(arrays, head=head, name=name, origin=name)


def grown(rows: int, width: int, memory: int = 0) -> int:
    """Fit mahalanobis and vim and score; give the bytes by which the process has grown."""
    torch.set_num_threads(2)
    detectors = [detector("mahalanobis"), detector("vim")]
    score_all(_splits(500, 16), detectors, memory=0)  # loads what is loaded on first use
    before = _peak()
    found = score_all(_splits(rows, width), detectors, memory=memory)
    assert not found.failed, found.failed
    return _peak() - before


def _splits(rows: int, width: int) -> SplitsInMemory:
    return SplitsInMemory.of(
        train=("fit", generated(rows, width, 0, "train")),
        id=("id", generated(max(1, rows // 100), width, 1, "id")),
        far=("far", generated(max(1, rows // 100), width, 2, "far")),
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Measure and print; exit status 1 above the limit."""
    rows, width = (int(text) for text in (sys.argv[1:] or ["1000000", "2048"]))
    start = time.perf_counter()
    grew = grown(rows, width)
    print(
        f"{rows:,} × {width:,} float16 ({rows * width * 2 / 2**30:.2f} GiB): grew by "
        f"{grew / 2**30:.2f} GiB to {_peak() / 2**30:.2f} GiB in "
        f"{time.perf_counter() - start:.0f} s"
    )
    return int(_peak() > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
