"""Named rows with roles: a cache, or arrays that are already there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from latentood.latents.facts import Origin, Role, SplitFacts
from latentood.latents.latents import Latents


class Splits(Protocol):
    """Named rows with roles: a cache, or :class:`SplitsInMemory`."""

    @property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → what is known of it."""

    @property
    def header(self) -> Origin:
        """Where the latents come from."""

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row of a split."""


@dataclass(frozen=True)
class SplitsInMemory:
    """Splits of arrays that are already there, for use without a cache."""

    latents: Mapping[str, Latents]
    splits: Mapping[str, SplitFacts]
    header: Origin = field(default_factory=Origin)

    @classmethod
    def of(cls, /, **splits: tuple[Role, Latents]) -> SplitsInMemory:
        """Build from ``name=(role, latents)``; any name will do."""
        return cls(
            {name: latents for name, (_, latents) in splits.items()},
            {name: SplitFacts(role) for name, (role, _) in splits.items()},
        )

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""
        return self.latents[split]

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row by its number."""
        return [str(row) for row in range(len(self.latents[split]))]
