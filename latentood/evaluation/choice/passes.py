"""Fewer passes than were kept: the splits with their first passes alone, and who can read them."""

from __future__ import annotations

from dataclasses import dataclass

from latentood.detectors.base import Detector
from latentood.errors import MissingInput
from latentood.latents import Key, Latents
from latentood.latents.splits import SplitsView
from latentood.latents.views import first_passes


@dataclass(frozen=True)
class FirstPasses(SplitsView):
    """Splits whose rows have their first passes alone."""

    passes: int

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""
        return first_passes(super().__getitem__(split), self.passes)


def passes_kept(rows: Latents) -> int:
    """Give T, the number of passes that are kept one by one."""
    counts = [rows.shape(key)[1] for key in rows.keys() if "T" in key.axes]  # noqa: SIM118
    return min(counts, default=0)


def require_each_pass(candidate: Detector, rows: Latents) -> None:
    """Refuse entropies that cannot be computed again of fewer passes."""
    for key in map(Key.parse, candidate.needs().score):
        source = Key("mc.features", key.layer) if key.kind == "mc.entropy" else key
        if key.of_passes and source not in rows:
            raise MissingInput(
                f"{candidate.name}: numbers of passes need {source!r}, but {rows.name} has "
                f"{', '.join(map(repr, rows.keys()))}; {source.advice(rows.keys())}"
            )
