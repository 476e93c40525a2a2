"""Array groups: arrays that are written and committed together, and their commit log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentood import files
from latentood.latents import Key
from latentood.store.documents import log_name
from latentood.store.schema import SplitSpec
from latentood.store.shards import Damage, StoredArray, Values, block_digest

Entry = tuple[int, ...] | None
"""The digests of a committed block, one for each array; empty if uncommitted, None if damaged.

Before schema 2 there is one for all arrays together."""


class StoredGroup:
    """Array group ``number`` of a split, whose folder, arrays and documents are given.

    ``place`` names the split in its store, for digests; None before schema 2.
    """

    def __init__(
        self,
        folder: Path,
        spec: SplitSpec,
        number: int,
        documents: Mapping[str, dict[str, Any]],
        place: str | None,
    ) -> None:
        self.number = number
        self.spec = spec.of_group(number)
        self._bound = place is not None
        self.arrays = {
            array.key: StoredArray(
                folder / array.key.path,
                array.key,
                documents[array.key.path],
                f"{place}\0{number}",
                [(folder / path, documents[path]) for path in _above(array.key.path)],
            )
            for array in self.spec.arrays
        }
        name = log_name(number)
        self.log = StoredArray(folder / name, name, documents[name])

    def begin(self) -> None:
        """Write a commit log without any committed block."""
        nothing = self.log.encode(0, np.zeros((1, *self.log.shape[1:]), np.uint64))
        for block in range(self.spec.blocks):
            files.write_file(self.log.shard(block), nothing, sync=False)
        files.sync_folder(self.log.folder)

    def entries(self) -> list[Entry]:
        """Read the commit log: the entry of each block."""
        try:
            return [_entry(row) for row in self.log.load(0, 0, self.spec.blocks)]
        except Damage:
            return [self._read_entry(block) for block in range(self.spec.blocks)]

    def digests(self, key: Key, entries: Sequence[Entry]) -> list[int]:
        """Give the digest of each block of one array; empty where digests are of all together."""
        if not self._bound:
            return []
        column = list(self.arrays).index(key)
        return [entry[column] if entry else 0 for entry in entries]

    def write(self, block: int, arrays: Mapping[str, Values]) -> int:
        """Put all shards of a block on the disk, then commit them; gives their bytes."""
        written = sum(array.write(block, arrays[key]) for key, array in self.arrays.items())
        # Only now: a reader trusts every shard of a block that has a digest.
        self._commit(block, self._digests(block, arrays))
        return written

    def withdraw(self, block: int) -> None:
        """Take the commit of a block back."""
        self._commit(block, [0] * math.prod(self.log.shape[1:]))

    def clear(self, block: int) -> None:
        """Delete the shards of an uncommitted block."""
        for array in self.arrays.values():
            files.remove(array.shard(block))

    def misplaced(self, block: int, entry: Entry, arrays: Mapping[str, Values]) -> list[str | None]:
        """Name the arrays whose rows are not those that were committed; None stands for any.

        ``arrays`` are those that could be read.
        """
        if not entry:
            return []
        if self._bound:
            pairs = zip(self.arrays.items(), entry, strict=True)
            return [
                key
                for (key, array), digest in pairs
                if key in arrays and array.digest(block, arrays[key]) != digest
            ]
        whole = arrays.keys() == self.arrays.keys()
        return [None] if whole and block_digest(arrays.items()) != entry[0] else []

    def _digests(self, block: int, arrays: Mapping[str, Values]) -> Sequence[int]:
        if self._bound:
            return [array.digest(block, arrays[key]) for key, array in self.arrays.items()]
        return [block_digest(arrays.items())]

    def _commit(self, block: int, digests: Sequence[int]) -> None:
        self.log.write(block, np.array(digests, np.uint64).reshape(1, *self.log.shape[1:]))

    def _read_entry(self, block: int) -> Entry:
        try:
            return _entry(self.log.read_block(block)[0])
        except Damage:
            return None


def _entry(row: Values) -> Entry:
    digests = tuple(int(digest) for digest in np.atleast_1d(row))
    if any(digests):
        return digests if all(digests) else None
    return ()


def _above(path: str) -> list[str]:
    """Name the folders above one, within a split."""
    return [parent.as_posix() for parent in Path(path).parents]
