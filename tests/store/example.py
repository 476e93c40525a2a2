"""A small cache with every kind of array, always the same one."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from latentood.latents.facts import Origin
from latentood.store.schema import ArraySpec, SplitSpec, encode_ids
from latentood.store.writer import open_writer

HEADER = Origin(
    pipeline={"name": "example", "layers": ["layer1", "penultimate"]},
    fingerprint={"seed": 0, "dtype": "float32", "weights": "ab12", "layers": ["layer1"]},
    versions={"torch": "2.15.0"},
)
HEAD = (np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(3, np.float32))

ARRAYS = (
    ArraySpec("logits", (3,), "float32"),
    ArraySpec("labels", (), "int64"),
    ArraySpec("ids", (12,), "uint8"),
    ArraySpec("features/layer1.0#2", (5,), "float16"),
    ArraySpec("features/penultimate", (4,), "float32"),
    ArraySpec("mc.logits", (2, 3), "float32"),
    ArraySpec("mc.features/layer1", (2, 5), "float32"),
    ArraySpec("mc.entropy/layer1", (5,), "float64"),
    ArraySpec("scores/odin", (), "float64"),
    ArraySpec("hashes", (), "int64"),
)
TRAIN = SplitSpec("train", "fit", 20, 8, ARRAYS, {"target": "example", "fingerprint": "cd34"})
FAR = SplitSpec("textures", "far", 7, 3, ARRAYS[:1] + ARRAYS[4:5], {"fingerprint": "ef56"})
SPLITS = (TRAIN, FAR)


def whole(spec: SplitSpec) -> dict[str, np.ndarray]:
    """All rows of a split; they depend on its name and keys, not on its blocks."""
    return {array.key: _values(spec, array) for array in spec.arrays}


def block_of(spec: SplitSpec, block: int) -> dict[str, np.ndarray]:
    """The rows of one block."""
    start, stop = spec.bounds(block)
    return {key: values[start:stop] for key, values in whole(spec).items()}


def fill(
    path: Path,
    splits: tuple[SplitSpec, ...] = SPLITS,
    *,
    overwrite: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Path:
    """Write what is not there yet."""
    with open_writer(path, HEADER, head=HEAD, overwrite=overwrite) as store:
        for spec in splits:
            (writer,) = store.split(spec)
            for block in writer.pending():
                before()
                writer.write(block, block_of(writer.spec, block))
    return path


def tree(path: Path) -> dict[str, bytes | None]:
    """Everything that lies in a folder: name → bytes, None for a folder."""
    return {
        entry.relative_to(path).as_posix(): entry.read_bytes() if entry.is_file() else None
        for entry in sorted(path.rglob("*"))
    }


def _values(spec: SplitSpec, array: ArraySpec) -> np.ndarray:
    if array.key == "ids":
        return encode_ids([f"é/{row}.png" for row in range(spec.rows)], array.tail[0])
    rng = np.random.default_rng(zlib.crc32(f"{spec.name}/{array.key}".encode()))
    return (rng.standard_normal((spec.rows, *array.tail)) * 9).astype(array.dtype)
