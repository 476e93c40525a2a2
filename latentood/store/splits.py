"""One split on disk: its documents, its arrays and its commit log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latentood.errors import LatentOODError, StoreError
from latentood.store import files
from latentood.store.documents import (
    COMMITTED,
    read_attributes,
    same_document,
    split_documents,
    write_document,
)
from latentood.store.schema import SplitSpec, check_name
from latentood.store.shards import Damage, StoredArray, Values, block_digest

SPLITS = "splits"


class StoredSplit:
    """A split in its folder.

    Args:
        folder: ``splits/<name>`` of a store.
        spec: What is in it.
    """

    def __init__(self, folder: Path, spec: SplitSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.documents = split_documents(spec)
        self.arrays = {
            array.key: StoredArray(folder / array.path, array.key, self.documents[array.path])
            for array in spec.arrays
        }
        self.log = StoredArray(folder / COMMITTED, COMMITTED, self.documents[COMMITTED])

    def create(self) -> None:
        """Put the split in place, all blocks uncommitted."""
        with files.new_folder(self.folder) as draft:
            fresh = StoredSplit(draft, self.spec)
            fresh.mend_documents()
            nothing = fresh.log.encode(0, np.zeros(1, np.uint64))
            for block in range(self.spec.blocks):
                files.write_file(fresh.log.shard(block), nothing)

    def damaged_documents(self) -> list[str]:
        """Name the folders within the split whose document is missing or was changed."""
        return [
            path
            for path, document in self.documents.items()
            if not same_document(self.folder / path, document)
        ]

    def mend_documents(self) -> None:
        """Write what is missing or was changed: every document follows from the split."""
        for path in self.damaged_documents():
            folder = self.folder / path
            if not folder.is_dir():
                folder.mkdir()
                files.sync_folder(folder.parent)
            write_document(folder, self.documents[path])
            files.sync_folder(folder)

    def digests(self) -> list[int | None]:
        """Read the commit log.

        Returns:
            For each block its digest, 0 if it is not committed, None if that entry is damaged.
        """
        try:
            return [int(digest) for digest in self.log.load(0, 0, self.spec.blocks)]
        except Damage:
            return [self._digest(block) for block in range(self.spec.blocks)]

    def commit(self, block: int, digest: int) -> None:
        """Write the digest of a block that is on the disk, or 0 to take a commit back."""
        self.log.write(block, np.array([digest], np.uint64))
        files.sync_folder(self.log.folder)

    def write(self, block: int, arrays: Mapping[str, Values]) -> None:
        """Put all shards of a block on the disk, then commit them."""
        for key, array in self.arrays.items():
            array.write(block, arrays[key])
            files.sync_folder(array.folder)
        # Only now: a reader trusts every shard of a block that has a digest.
        self.commit(block, block_digest(arrays.items()))

    def clear(self, block: int) -> None:
        """Delete the shards of an uncommitted block."""
        for array in self.arrays.values():
            files.remove(array.shard(block))

    def _digest(self, block: int) -> int | None:
        try:
            return int(self.log.read_block(block)[0])
        except Damage:
            return None


def load_split(store: Path, name: str) -> StoredSplit:
    """Read what a split is made of.

    Raises:
        StoreError: Its metadata are damaged, or hold what no cache may hold.
    """
    folder = store / SPLITS / name
    try:
        check_name("split", name)
        spec = SplitSpec.from_json(read_attributes(folder) or {})
        if spec.name != name:
            raise StoreError(f"they are those of split {spec.name!r}")
    except (LatentOODError, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{store}: the metadata of split {name!r} must be as latentood wrote them, but "
            f"cannot be used ({error}); delete {folder} and extract again"
        ) from error
    return StoredSplit(folder, spec)


def list_splits(store: Path) -> list[str]:
    """Name the splits of a store that are finished being created."""
    folder = store / SPLITS
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir()
        and not entry.name.startswith(".")  # the file browser's, not ours
        and not entry.name.endswith(files.UNFINISHED)
    )
