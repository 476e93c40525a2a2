"""Array groups: arrays that are written and committed together, and their commit log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentood import files
from latentood.store.documents import log_name
from latentood.store.schema import SplitSpec
from latentood.store.shards import Damage, StoredArray, Values, block_digest


class StoredGroup:
    """Array group ``number`` of a split, whose folder, arrays and documents are given."""

    def __init__(
        self, folder: Path, spec: SplitSpec, number: int, documents: Mapping[str, dict[str, Any]]
    ) -> None:
        self.number = number
        self.spec = spec.of_group(number)
        self.arrays = {
            array.key: StoredArray(folder / array.key.path, array.key, documents[array.key.path])
            for array in self.spec.arrays
        }
        name = log_name(number)
        self.log = StoredArray(folder / name, name, documents[name])

    def begin(self) -> None:
        """Write a commit log without any committed block."""
        nothing = self.log.encode(0, np.zeros(1, np.uint64))
        for block in range(self.spec.blocks):
            files.write_file(self.log.shard(block), nothing, sync=False)
        files.sync_folder(self.log.folder)

    def digests(self) -> list[int | None]:
        """Read the commit log: for each block its digest, 0 if uncommitted, None if damaged."""
        try:
            return [int(digest) for digest in self.log.load(0, 0, self.spec.blocks)]
        except Damage:
            return [self._digest(block) for block in range(self.spec.blocks)]

    def commit(self, block: int, digest: int) -> None:
        """Write the digest of a block that is on the disk, or 0 to take a commit back."""
        self.log.write(block, np.array([digest], np.uint64))

    def write(self, block: int, arrays: Mapping[str, Values]) -> int:
        """Put all shards of a block on the disk, then commit them; gives their bytes."""
        written = sum(array.write(block, arrays[key]) for key, array in self.arrays.items())
        # Only now: a reader trusts every shard of a block that has a digest.
        self.commit(block, block_digest(arrays.items()))
        return written

    def clear(self, block: int) -> None:
        """Delete the shards of an uncommitted block."""
        for array in self.arrays.values():
            files.remove(array.shard(block))

    def _digest(self, block: int) -> int | None:
        try:
            return int(self.log.read_block(block)[0])
        except Damage:
            return None
