"""How arrays are made small: rounding of their values, and one of two codecs.

Both codecs are Blosc with bitshuffle, which any Zarr v3 reader has. The choice is stored with each
array, so that a later version may choose otherwise and still read what this one wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.bitround import BitRound

from latentood.latents import Key

LZ4 = "lz4"
ZSTD = "zstd"
CODECS = (LZ4, ZSTD)

# Blosc's own scale; zstd at 3 takes 1.3 to 3 times the time of 1 for at most 3% of the size.
_LEVEL = {LZ4: 5, ZSTD: 1}

MANTISSA = {"float16": 10, "float32": 23, "float64": 52}
"""Explicit mantissa bits of each dtype that can be rounded."""


def choose_codec(key: Key, tail: tuple[int, ...], dtype: str, keep_bits: int | None) -> str:
    """Choose the codec of a new array with this key, shape of one row, dtype and rounding."""
    if not dtype.startswith("float"):
        return ZSTD  # ids and labels repeat themselves and are small: the time does not show
    if keep_bits is not None:
        return ZSTD  # the bits that are left repeat themselves: 1 to 4% of the size, maps 26%
    if key.kind == "features" and len(tail) > 1:
        return ZSTD  # a map that was not pooled has structure: 4 to 23% of the size
    if key.kind == "mc.features" and len(tail) > 2:
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


def keep_mantissa(
    values: np.ndarray[Any, np.dtype[Any]], bits: int
) -> np.ndarray[Any, np.dtype[Any]]:
    """Round to the nearest number with so many mantissa bits, ties to the even one.

    The numbers keep their dtype and their exponent; the mantissa bits that are dropped become
    zeros, which the codec then removes. The relative error is at most 2^-(bits + 1). NaN and
    infinities stay as they are, and a finite number stays finite: one that would be rounded up to
    infinity is cut off instead.
    """
    rounded = BitRound(bits).encode(np.ascontiguousarray(values)).view(values.dtype)
    finite = np.isfinite(values)  # rounding may make a number of a NaN
    if finite.all() and np.isfinite(rounded).all():
        return np.asarray(rounded)
    raw = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    dropped = (1 << (MANTISSA[values.dtype.name] - bits)) - 1
    cut = (raw & ~raw.dtype.type(dropped)).view(values.dtype)
    return np.where(finite, np.where(np.isfinite(rounded), rounded, cut), values)
