"""Rounding floats to fewer mantissa bits, so that they compress.

The numbers keep their dtype and their exponent; the mantissa bits that are dropped become
zeros, which the codec then removes. The relative error is at most 2^-(bits + 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

MANTISSA = {"float16": 10, "float32": 23, "float64": 52}
"""Explicit mantissa bits of each dtype that can be rounded."""


def keep_mantissa(
    values: np.ndarray[Any, np.dtype[Any]], bits: int
) -> np.ndarray[Any, np.dtype[Any]]:
    """Round to the nearest number with so many mantissa bits, ties to the even one.

    Args:
        values: float16, float32 or float64, of any shape.
        bits: From 1 to one less than the dtype has.

    Returns:
        The same shape and dtype. NaN and infinities stay as they are, and a finite number stays
        finite: one that would be rounded up to infinity is cut off instead.
    """
    drop = MANTISSA[values.dtype.name] - bits
    raw = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    one = raw.dtype.type(1)
    cut = raw & ~raw.dtype.type((1 << drop) - 1)
    # Just less than half a step, plus one where the last kept bit is odd: then a tie goes up.
    # A carry runs into the exponent, which is where it belongs.
    step = ((raw >> raw.dtype.type(drop)) & one) + raw.dtype.type((1 << (drop - 1)) - 1)
    rounded = (raw + step) & ~raw.dtype.type((1 << drop) - 1)
    rounded = np.where(np.isfinite(rounded.view(values.dtype)), rounded, cut)
    return np.where(np.isfinite(values), rounded, raw).view(values.dtype)
