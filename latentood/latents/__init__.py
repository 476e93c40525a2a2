"""Named arrays of rows, their keys, and statistics of them.

What needs torch is imported on first use, so that the store can be written without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentood.latents.key import (
    HASHES,
    HEAD,
    IDS,
    LABELS,
    LOGITS,
    MC_LOGITS,
    PENULTIMATE,
    PENULTIMATE_FEATURES,
    Key,
)

if TYPE_CHECKING:
    from latentood.latents.latents import CHUNK_ROWS, Latents
    from latentood.latents.memo import Accumulator, Reading, Statistic
    from latentood.latents.rows import Budget, Rows

_HOME_OF = {
    "CHUNK_ROWS": "latents",
    "Latents": "latents",
    "Accumulator": "memo",
    "Reading": "memo",
    "Statistic": "memo",
    "Budget": "rows",
    "Rows": "rows",
}
"""Name → the module of this package that holds it."""

__all__ = [
    "CHUNK_ROWS", "HASHES", "HEAD", "IDS", "LABELS", "LOGITS", "MC_LOGITS", "PENULTIMATE",
    "PENULTIMATE_FEATURES", "Accumulator", "Budget", "Key", "Latents", "Reading", "Rows",
    "Statistic",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'latentood.latents' has no attribute {name!r}")
    return getattr(import_module(f"latentood.latents.{_HOME_OF[name]}"), name)
