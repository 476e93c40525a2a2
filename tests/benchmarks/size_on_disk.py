"""What a smaller cache costs: ``python -m tests.benchmarks.size_on_disk CACHE``.

CACHE is a complete float32 cache. Its arrays are written again under every option, read back and
scored, and compared with the scores of the exact cache; the result is a table in Markdown. Speeds
are bytes of the float32 original, so that they compare the time for the same rows, per second of
processor time, which neither the disk nor what else the machine does changes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latentood.evaluation.comparison import Comparison
from latentood.evaluation.inputs.request import select
from latentood.evaluation.scoring import score_all
from latentood.latents import IDS
from latentood.store.cache import Cache, inspect, open_cache
from latentood.store.schema import ArraySpec, SplitSpec, encode_ids
from latentood.store.writer import open_writer

DETECTORS = ("msp", "energy", "mahalanobis", "vim", "knn", "larem")
ROUNDED = ("features/", "mc.")


@dataclass(frozen=True)
class Option:
    """One way to keep the same arrays."""

    name: str
    dtype: str = "float32"
    keep_bits: int | None = None
    codec: str = ""  # as the writer chooses

    def applied(self, array: ArraySpec) -> ArraySpec:
        """Lay out one array under this option."""
        if array.dtype != "float32":
            return array
        rounded = array.key.startswith(ROUNDED)
        bits = self.keep_bits if rounded else None
        codec = self.codec if rounded else ""
        return ArraySpec(array.key, array.tail, self.dtype, array.how, bits, codec)


OPTIONS = (
    Option("float32"),
    Option("float32, zstd", codec="zstd"),
    Option("float16", "float16"),
    Option("float16, zstd", "float16", codec="zstd"),
    Option("keep_bits 10", keep_bits=10),
    Option("keep_bits 7", keep_bits=7),
    Option("keep_bits 7, lz4", keep_bits=7, codec="lz4"),
)


def specs(cache: Cache, option: Option) -> Iterator[SplitSpec]:
    """Lay out every split under an option."""
    for info in cache.splits.values():
        arrays = tuple(option.applied(replace(array, group=0)) for array in info.arrays)
        yield SplitSpec(info.name, info.role, info.rows, info.block_rows, arrays, info.data)


def values(cache: Cache, split: str, key: str, width: int) -> np.ndarray:
    """Read an array, the ids included."""
    if key == IDS:
        return encode_ids(cache.ids(split), width)
    return cache[split][key].numpy()


def write(cache: Cache, option: Option, path: Path) -> float:
    """Write the cache again; returns the seconds in the writer alone."""
    seconds = 0.0
    head = cache.head
    weights = None if head is None else (head[0].numpy(), head[1].numpy())
    with open_writer(path, cache.header, head=weights) as store:
        for spec in specs(cache, option):
            rows = {
                array.key: values(cache, spec.name, array.key, array.tail[0] if array.tail else 1)
                .astype(array.dtype)
                for array in spec.arrays
            }  # fmt: skip
            (writer,) = store.split(spec)
            for block in writer.pending():
                low, high = writer.bounds(block)
                part = {key: array[low:high] for key, array in rows.items()}
                began = time.process_time()
                writer.write(block, part)
                seconds += time.process_time() - began
    return seconds


def read(path: Path) -> float:
    """Read all arrays; returns the seconds."""
    cache = open_cache(path)
    began = time.process_time()
    for split in cache.splits:
        latents = cache[split]
        for key in latents.keys():  # noqa: SIM118
            if key != "head":
                _ = latents[key]
    return time.process_time() - began


def scored(path: Path) -> Comparison:
    """Fit and score the detectors."""
    cache = open_cache(path)
    return score_all(cache, select(DETECTORS, splits=cache).detectors)


def changes(exact: Comparison, rounded: Comparison) -> list[str]:
    """Give, per detector, the largest change of a score and of an AUROC."""
    cells = []
    for before, after in zip(exact.results, rounded.results, strict=True):
        name = exact.id_split.name
        spread = float(np.std(before.scores[name]))
        moved = max(
            float(np.abs(after.scores[split] - before.scores[split]).max())
            for split in before.scores
        )
        auroc = max(abs(a.auroc - b.auroc) for a, b in zip(after.rows, before.rows, strict=True))
        cells.append(f"{moved / spread:.1g} σ, {auroc:.1g}")
    return cells


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.size_on_disk", description=__doc__
    )
    parser.add_argument("cache", type=Path, help="a complete float32 cache")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    cache = open_cache(chosen.cache)
    exact = scored(chosen.cache)
    names = [f"{r.request.detector} {r.request.layer}".strip() for r in exact.results]
    floats = raw = inspect(chosen.cache)["total"]["raw"]
    print(f"| | bytes | of float32 | write MB/s | read MB/s | {' | '.join(names)} |")
    print("|---|" + "---:|" * (4 + len(names)))
    for at, option in enumerate(OPTIONS):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{repeat}.zarr" for repeat in range(chosen.repeats)]
            # The least of several: whatever else a machine does only ever adds time.
            wrote = min(write(cache, option, path) for path in paths)
            took = min(read(path) for path in paths)
            stored = inspect(paths[0])["total"]["stored"]
            floats = stored if at == 0 else floats
            cells = changes(exact, scored(paths[0]))
        print(
            f"| {option.name} | {stored / 1e6:.1f} MB | {stored / floats:.0%} | "
            f"{raw / wrote / 1e6:.0f} | {raw / took / 1e6:.0f} | {' | '.join(cells)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
