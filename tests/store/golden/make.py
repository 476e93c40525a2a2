"""The golden cache: written once and kept, so that later versions must read what this one wrote.

Run as ``python -m tests.store.golden.make`` to write it again, and commit the result; that is
right only after a change of the format that nobody's caches have to survive.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from latentood.latents.facts import Origin
from latentood.store.codecs import keep_mantissa
from latentood.store.disk import LOCK
from latentood.store.schema import ArraySpec, SplitSpec, encode_ids
from latentood.store.writer import open_writer

GOLDEN = Path(__file__).with_name("schema2")
OLD = Path(__file__).with_name("schema1")
"""The same cache as version 0.1.0 wrote it."""

HEADER = Origin(
    pipeline={"name": "golden"}, fingerprint={"seed": 7, "dtype": "float32"}, versions={"zarr": "3"}
)
HEAD = (np.arange(6, dtype=np.float32).reshape(2, 3) / 4, np.array([0.5, -0.5], np.float32))
IDS = [f"größe/{row}.png" for row in range(5)]
FIRST = SplitSpec(
    "train", "fit", 5, 3,
    (
        ArraySpec("ids", (16,), "uint8"),
        ArraySpec("labels", (), "int64"),
        ArraySpec("logits", (2,), "float32"),
        ArraySpec("features/layer1.0#2", (3, 2, 2), "float16", how="none"),
    ),
    {"target": "golden", "fingerprint": "0123"},
)  # fmt: skip
WHOLE = SplitSpec(
    FIRST.name, FIRST.role, FIRST.rows, FIRST.block_rows,
    (
        *FIRST.arrays,
        ArraySpec("mc.logits", (4, 2), "float32", keep_bits=7),
        ArraySpec("scores/odin", (), "float64", how='{"eps":0.1}'),
    ),
    FIRST.data,
)  # fmt: skip


def values(array: ArraySpec) -> np.ndarray:
    """Give all rows of an array; element i is ((37 i) mod 101 − 50) / 7, or i mod 2 for labels."""
    if array.key == "ids":
        return encode_ids(IDS, array.tail[0])
    count = np.arange(FIRST.rows * array.nbytes // np.dtype(array.dtype).itemsize)
    if array.key == "labels":
        return count % 2
    shaped = ((37 * count) % 101 - 50) / 7
    rows = shaped.reshape(FIRST.rows, *array.tail).astype(array.dtype)
    return rows if array.keep_bits is None else keep_mantissa(rows, array.keep_bits)


def write(path: Path) -> None:
    """Write the cache in two extractions, the second of which adds arrays; or what is missing."""
    for spec in (FIRST, WHOLE):
        with open_writer(path, HEADER, head=HEAD) as store:
            for writer in store.split(spec):
                for block in writer.pending():
                    rows = slice(*writer.bounds(block))
                    arrays = {array.key: values(array)[rows] for array in writer.spec.arrays}
                    writer.write(block, arrays)
    (path / LOCK).unlink()


if __name__ == "__main__":
    shutil.rmtree(GOLDEN, ignore_errors=True)
    write(GOLDEN)
