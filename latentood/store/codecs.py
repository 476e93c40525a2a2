"""How the bytes of an array are compressed: one of two codecs, chosen by what the array holds.

Both are Blosc with bitshuffle, which any Zarr v3 reader has. The choice is stored with each
array, so that a later version may choose otherwise and still read what this one wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LZ4 = "lz4"
ZSTD = "zstd"
CODECS = (LZ4, ZSTD)

# Blosc's own scale; zstd at 3 takes 1.3 to 3 times the time of 1 for at most 3% of the size.
_LEVEL = {LZ4: 5, ZSTD: 1}


def choose_codec(key: str, tail: tuple[int, ...], dtype: str, keep_bits: int | None) -> str:
    """Choose the codec of a new array.

    Args:
        key: Its key, e.g. ``features/layer3``.
        tail: Shape of one row.
        dtype: Its dtype.
        keep_bits: Mantissa bits that were kept, if its values are rounded.
    """
    if not dtype.startswith("float"):
        return ZSTD  # ids and labels repeat themselves and are small: the time does not show
    if keep_bits is not None:
        return ZSTD  # the bits that are left repeat themselves: 1 to 4% of the size, maps 26%
    if key.startswith("features/") and len(tail) > 1:
        return ZSTD  # a map that was not pooled has structure: 4 to 23% of the size
    if key.startswith("mc.features/") and len(tail) > 2:
        return ZSTD  # the same, one pass after the other
    return LZ4  # means over many numbers look random: zstd gains nothing and takes 3 times as long


def blosc(codec: str, dtype: str) -> dict[str, Any]:
    """Describe a codec for ``zarr.json``."""
    settings = {
        "typesize": np.dtype(dtype).itemsize,
        "cname": codec,
        "clevel": _LEVEL[codec],
        "shuffle": "bitshuffle",
        "blocksize": 0,
    }
    return {"name": "blosc", "configuration": settings}
