"""Rows of a split that also stand in another one, by the digests of their inputs.

Only equal inputs are recognised; near-duplicates are not.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentood.errors import ConfigError, IncompleteSplit
from latentood.latents import HASHES
from latentood.latents.facts import Role
from latentood.latents.splits import Splits

log = logging.getLogger(__name__)

_STAGE: dict[Role, int] = {"fit": 0, "val": 1, "tune": 2, "id": 3, "near": 4, "far": 4, "mixed": 4}
"""Roles in the order in which splits are used: none should hold rows of an earlier one."""


@dataclass(frozen=True)
class Overlap:
    """Rows of a split that also stand in another one."""

    split: str
    other: str  # which is used before
    rows: int  # of the split that also stand in the other one, ≥ 1
    of: int  # rows of the split

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.split}: {self.rows:,} of {self.of:,} rows also stand in {self.other}"


def overlaps(splits: Splits, *, tune: bool = False) -> tuple[Overlap, ...]:
    """Count the rows of every split that also stand in one that is used before it.

    Splits without hashes, such as those of older caches, are left out, and so are those that are
    not complete; those of role ``tune`` are read only where ``tune`` says so.
    """
    names = [name for name, facts in splits.splits.items() if tune or facts.role != "tune"]
    hashes = {name: found for name in names if (found := hashes_of(splits, name)) is not None}
    if unknown := set(names) - hashes.keys():
        listed = ", ".join(sorted(unknown))
        log.info("%s: no hashes, so rows that also stand in other splits are not known", listed)
    stage = {name: _STAGE[splits.splits[name].role] for name in hashes}
    counts = (
        Overlap(split, other, int(np.isin(own, others).sum()), len(own))
        for split, own in hashes.items()
        for other, others in hashes.items()
        if stage[split] > stage[other]
    )
    return tuple(overlap for overlap in counts if overlap.rows)


def require_apart(counted: Iterable[Overlap], splits: Collection[str], *, who: str) -> None:
    """Refuse splits most of whose rows also stand in another one.

    Args:
        counted: What :func:`overlaps` gave.
        splits: Which splits must be apart from others.
        who: The verb that uses them.

    Raises:
        ConfigError: More than half of the rows of one of them stand in another split.
    """
    for overlap in counted:
        if overlap.split in splits and 2 * overlap.rows > overlap.of:
            raise ConfigError(
                f"{who}: splits must hold different rows, but {overlap.rows:,} of the "
                f"{overlap.of:,} rows of {overlap.split!r} also stand in {overlap.other!r}; give "
                f"{overlap.split!r} other data, or add --allow-overlap (in Python "
                "allow_overlap=True)"
            )


def hashes_of(splits: Splits, name: str) -> NDArray[np.int64] | None:
    """Give the digests of the inputs of a split, (N,), where they are known and it is complete."""
    try:
        rows = splits[name]
    except IncompleteSplit:
        return None
    return rows[HASHES].cpu().numpy() if HASHES in rows else None
