"""Peak memory: python -m tests.benchmarks.memory fit|extract [ROWS] [WIDTH].

Without numbers 1,000,000 × 2,048. ``fit``: from a stream of float16, 4 GB if it were held; must
stay under 3 GiB. ``extract``: a small model whose features are that wide, 8 GB of float32 onto the
disk of the current folder; must stay under 2 GiB above what the model itself needs.
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from latentood.detectors.registry import detector
from latentood.evaluation.scoring import score_all
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory
from latentood.pipeline.schema import parse_pipeline
from latentood.workflows import extract

FIT_LIMIT, EXTRACT_LIMIT = 3 << 30, 2 << 30
CLASSES = 10
DRAWN = 4093  # a prime, so that no order repeats soon


class Generated:
    """Rows that are made when they are read, float16, and the same each time."""

    def __init__(self, rows: int, width: int, seed: int) -> None:
        self.shape = (rows, width)
        draw = torch.Generator().manual_seed(seed)
        self.drawn = torch.randn(DRAWN, width, generator=draw).half()

    def read(self, start: int, stop: int) -> Tensor:
        """Repeat the drawn rows in another order; drawing all of them would take the time."""
        return self.drawn[torch.arange(start, stop) * 7919 % DRAWN]


class Labels:
    """Classes in turn."""

    def __init__(self, rows: int) -> None:
        self.shape = (rows,)

    def read(self, start: int, stop: int) -> Tensor:
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
    comparison = score_all(_splits(rows, width), detectors, memory=memory)
    assert not comparison.failed, comparison.failed
    return _peak() - before


def _splits(rows: int, width: int) -> SplitsInMemory:
    return SplitsInMemory.of(
        train=("fit", generated(rows, width, 0, "train")),
        id=("id", generated(max(1, rows // 100), width, 1, "id")),
        far=("far", generated(max(1, rows // 100), width, 2, "far")),
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Numbers:
    """A data set of ROWS small vectors."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.linspace(-1, 1, 8) * (row % DRAWN), row % CLASSES


def wide(width: int) -> nn.Module:
    """Build a model whose penultimate features are WIDTH numbers."""
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, CLASSES))


def extracted(rows: int, width: int) -> int:
    """Extract penultimate features; give the bytes by which the process has grown."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="latentood-benchmark-", dir=".") as folder:
        _extract(Path(folder) / "first.zarr", 300, width)  # the model, and what first use loads
        before = _peak()
        _extract(Path(folder) / "whole.zarr", rows, width)
        print(f"free on the disk while it is full: {shutil.disk_usage(folder).free / 1e9:.0f} GB")
    return _peak() - before


def _extract(store: Path, rows: int, width: int) -> None:
    pipeline = parse_pipeline(
        {
            "name": "memory",
            "model": {"target": "tests.benchmarks.memory.wide", "args": {"width": width}},
            "splits": {
                "train": {
                    "role": "fit",
                    "target": "tests.benchmarks.memory.Numbers",
                    "args": {"rows": rows},
                }
            },
            "extract": {"batch_size": 256, "device": "cpu"},
        }
    )
    extract(pipeline, store)


def main() -> int:
    """Measure and print; exit status 1 above the limit."""
    what, *numbers = sys.argv[1:]
    rows, width = (int(text) for text in (numbers or ["1000000", "2048"]))
    start = time.perf_counter()
    grew = (grown if what == "fit" else extracted)(rows, width)
    print(
        f"{what}: {rows:,} × {width:,}: grew by {grew / 2**30:.2f} GiB to "
        f"{_peak() / 2**30:.2f} GiB in {time.perf_counter() - start:.0f} s"
    )
    return int(_peak() > FIT_LIMIT if what == "fit" else grew > EXTRACT_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
