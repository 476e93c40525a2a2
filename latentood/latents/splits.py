"""Named rows with roles: a cache, or arrays that are already there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from latentood.latents.facts import OOD_ROLES, Origin, Role, SplitFacts
from latentood.latents.key import Key, Unit
from latentood.latents.latents import Latents

log = logging.getLogger(__name__)


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
class SplitsView:
    """Another look at splits: what a subclass does not say is as they have it."""

    of: Splits

    @property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → what is known of it."""
        return self.of.splits

    @property
    def header(self) -> Origin:
        """Where the latents come from."""
        return self.of.header

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""
        return self.of[split]

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row of a split."""
        return self.of.ids(split)


@dataclass(frozen=True)
class MemberSplits(SplitsView):
    """The images, cells or boxes of splits, as rows of their own."""

    unit: Unit

    @cached_property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → what is known of it; OOD splits in which no image has a member are left out."""
        kept = {}
        for name, facts in self.of.splits.items():
            if facts.role in OOD_ROLES and self._is_empty(name):
                log.warning("%s: no image has a %s, so the split is left out", name, self.unit)
            else:
                kept[name] = facts
        return kept

    def _is_empty(self, split: str) -> bool:
        if self.unit == "image":
            return False
        rows, count = self.of[split], Key("count", unit=self.unit)
        return count in rows and not bool(rows[count].any())

    def __getitem__(self, split: str, /) -> Latents:
        """Give the members of a split."""
        return self.of[split].members(self.unit)

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each member by its image and its number there, from 0: ``street.png#3``."""
        images = self.of.ids(split)
        if self.unit == "image":
            return images
        count = self.of[split][Key("count", unit=self.unit)].tolist()
        pairs = zip(images, count, strict=True)
        return [f"{image}#{number}" for image, many in pairs for number in range(many)]


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
