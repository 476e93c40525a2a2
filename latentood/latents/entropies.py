"""Entropies of rows that hold the features of all passes, computed as they are read."""

from __future__ import annotations

from torch import Tensor

from latentood.latents.key import Key
from latentood.latents.rows import Rows
from latentood.stats.entropy import kl_entropy


class Entropies:
    """The entropy of each dimension (N, D) over the passes of features (N, T, D).

    They are what extraction stores: same estimator, same settings, and the type of the features.
    """

    def __init__(self, passes: Rows) -> None:
        self.shape = (passes.shape[0], *passes.shape[2:])
        self._passes = passes

    def read(self, start: int, stop: int) -> Tensor:
        """Compute the entropies of rows ``start`` to ``stop``."""
        passes = self._passes.read(start, stop)
        return kl_entropy(passes).to(passes.dtype)


def with_entropies(rows: dict[Key, Rows]) -> dict[Key, Rows]:
    """Add the entropies of every layer with features of ≥ 2 passes that has none."""
    derived: dict[Key, Rows] = {
        Key("mc.entropy", key.layer): Entropies(array)
        for key, array in rows.items()
        if key.kind == "mc.features" and key.unit == "image" and _has_passes(array.shape)
    }
    return rows | {key: array for key, array in derived.items() if key not in rows}


def _has_passes(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[1] > 1
