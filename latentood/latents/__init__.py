"""Named arrays of rows, what is known of them, and what can be asked of them."""

from latentood.latents.key import (
    HEAD,
    IDS,
    LABELS,
    LOGITS,
    MC_LOGITS,
    PENULTIMATE,
    PENULTIMATE_FEATURES,
    Key,
)
from latentood.latents.latents import CHUNK_ROWS, Latents
from latentood.latents.memo import Accumulator, Reading, Statistic
from latentood.latents.rows import Budget, Rows

__all__ = [
    "CHUNK_ROWS", "HEAD", "IDS", "LABELS", "LOGITS", "MC_LOGITS", "PENULTIMATE",
    "PENULTIMATE_FEATURES", "Accumulator", "Budget", "Key", "Latents", "Reading", "Rows",
    "Statistic",
]  # fmt: skip
