"""Reading a cache: committed blocks only, and damage is an error that names its block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from latentood import sealed
from latentood.errors import DamagedBlock, IncompleteSplit, StoreError, unknown
from latentood.files import human_bytes
from latentood.latents import HEAD, IDS, Key, Latents
from latentood.latents.facts import Origin, Role, SplitFacts
from latentood.latents.facts import digest as data_digest
from latentood.store.disk import SPLITS
from latentood.store.groups import Entry, StoredGroup
from latentood.store.heads import head_file, head_files
from latentood.store.root import StoredHead, read_root
from latentood.store.schema import ArraySpec, decode_ids, some
from latentood.store.shards import Damage, StoredArray
from latentood.store.splits import StoredSplit, list_splits, load_split


def open_cache(path: str | Path) -> Cache:
    """Open a cache for reading; arrays are read when they are used.

    Raises:
        StoreError: The path is not a cache, or its metadata are damaged or too new.
    """
    return Cache(Path(path))


@dataclass(frozen=True, kw_only=True)
class SplitInfo(SplitFacts):
    """The content of a split of a cache."""

    name: str
    rows: int  # N
    block_rows: int  # R, rows of a block
    blocks: int
    committed: tuple[int, ...]  # the blocks that are there, with every array
    arrays: tuple[ArraySpec, ...]  # kept of each row, ids and scores included

    @property
    def complete(self) -> bool:
        """Whether every block is there."""
        return len(self.committed) == self.blocks


class Cache:
    """A cache on disk; use :func:`open_cache`.

    Attributes:
        path: Its folder.
        schema: Number of its format.
        header: Where its numbers come from.
        splits: name → :class:`SplitInfo`, in the order of names.
        head_files: name → file of a head that was trained on features of the cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path)
        root = read_root(path)
        self.header: Origin = root.origin
        self.schema = root.schema
        self._head = root.head
        try:
            self._stored = {name: load_split(path, root, name) for name in list_splits(path)}
            self._entries = {
                name: [group.entries() for group in split.groups]
                for name, split in self._stored.items()
            }
        except PermissionError as error:
            raise StoreError(
                f"{path}: every file must be readable, but {error.filename} is not; "
                "change its permissions"
            ) from error
        self.splits = {name: self._info(split) for name, split in self._stored.items()}
        self.head_files = head_files(path)

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r}, splits: {', '.join(self.splits) or 'none'})"

    def __getitem__(self, split: str) -> Latents:
        """Give the rows of a split, without its ids.

        Arrays that are being added to the split are left out until all their rows are there.

        Raises:
            UnknownName: There is no such split (names the nearest).
            IncompleteSplit: Its first extraction has not finished.
            DamagedBlock: Its commit log is damaged; or, once read, an array or the head.
        """
        first, *later = self._groups(split)
        self._require_complete(split, first)
        rows = {
            key: self._rows(split, group, key)
            for group in (first, *(group for group in later if self._is_complete(split, group)))
            for key in group.arrays
            if key != IDS
        }
        origin = f"{self.header.digest}:{split}:{data_digest(self.splits[split].data)}"
        return Latents.from_rows(rows, head=self.head, name=split, origin=origin)

    @cached_property
    def head(self) -> tuple[Tensor, Tensor] | None:
        """Weight (C, D) and bias (C,) of the last linear layer, if they were kept.

        Raises:
            DamagedBlock: They are not what was written.
        """
        if self._head is None:
            return None
        try:
            weight, bias = StoredHead(self.path, self._head).read()
        except Damage as damage:
            raise self._damaged(
                f"the {HEAD} is damaged: {damage.what}; run latentood extract to write it again"
            ) from damage
        return torch.from_numpy(weight), torch.from_numpy(bias)

    def ids(self, split: str) -> list[str]:
        """Read the ids of a split's rows, e.g. file names."""
        return decode_ids(self._whole(split, IDS).numpy())

    def column(self, split: str, name: str) -> Tensor:
        """Read a score column (N,) that was computed during extraction."""
        return self._whole(split, Key("scores", name))

    def of_role(self, *roles: Role) -> list[str]:
        """Name the splits that have one of these roles."""
        return [name for name, split in self.splits.items() if split.role in roles]

    def learnt_head(self, name: str) -> sealed.Content:
        """Read a head that was trained on features of the cache: its description and its tensors.

        Raises:
            DamagedBlock: Its file is not there, or not what was written.
        """
        return read_head(head_file(self.path, name))

    def _whole(self, split: str, key: Key) -> Tensor:
        groups = self._groups(split)
        holder = next((group for group in groups if key in group.arrays), None)
        if holder is None:
            raise unknown(f"array in split {split!r}", key, self._stored[split].arrays)
        self._require_complete(split, holder)
        return self._rows(split, holder, key).read(0, self.splits[split].rows)

    def _rows(self, split: str, group: StoredGroup, key: Key) -> _Rows:
        digests = group.digests(key, self._entries[split][group.number])
        return _Rows(self, split, group.arrays[key], digests)

    def _groups(self, split: str) -> list[StoredGroup]:
        if split not in self._stored:
            raise unknown(f"split in {self.path}", split, self._stored)
        groups = self._stored[split].groups
        for group, entries in zip(groups, self._entries[split], strict=True):
            if not group.log.is_intact:
                raise self.damaged(split, 0, group.log.key, "its zarr.json was changed")
            if None in entries:
                block = entries.index(None)
                raise self.damaged(split, block, group.log.key, "its entry is unreadable")
        return groups

    def _is_complete(self, split: str, group: StoredGroup) -> bool:
        return all(self._entries[split][group.number])

    def _require_complete(self, split: str, group: StoredGroup) -> None:
        if not self._is_complete(split, group):
            entries = self._entries[split][group.number]
            raise IncompleteSplit(
                f"{self.path}: split {split!r} has {sum(map(bool, entries))} of {len(entries)} "
                f"blocks of {some(list(group.arrays))}; resume with latentood extract"
            )

    def _info(self, stored: StoredSplit) -> SplitInfo:
        spec = stored.spec
        of_blocks = zip(*self._entries[spec.name], strict=True)
        committed = tuple(block for block, entries in enumerate(of_blocks) if all(entries))
        return SplitInfo(
            role=spec.role,
            data=spec.data,
            made={array.key: array.how for array in spec.arrays},
            name=spec.name,
            rows=spec.rows,
            block_rows=spec.block_rows,
            blocks=spec.blocks,
            committed=committed,
            arrays=spec.arrays,
        )

    def damaged(self, split: str, block: int, array: str, what: str) -> StoreError:
        """Build the error for a block that is not what was written."""
        return self._damaged(
            f"split {split!r}, block {block}: {array} is damaged: {what}; run latentood verify "
            "--discard, then latentood extract to compute it again"
        )

    def _damaged(self, what: str) -> StoreError:
        if _identity(self.path) != self._identity:
            return StoreError(
                f"{self.path}: was overwritten by another extraction while it was read; open it "
                "again once that has finished"
            )
        return DamagedBlock(f"{self.path}: {what}")


def read_head(file: Path) -> sealed.Content:
    """Read the file of a head that was trained on features of a cache.

    Raises:
        DamagedBlock: It is not what was written.
    """

    def refuse(what: str) -> DamagedBlock:
        return DamagedBlock(
            f"{file}: must hold the head that latentood train --from wrote, got {what}; run that "
            "command again to write it again"
        )

    if file.is_symlink():  # below its root nothing of a store is followed
        raise refuse("a link")
    return sealed.read_intact(file, refuse)


class _Rows:
    """The rows of one array, read on demand."""

    def __init__(
        self, cache: Cache, split: str, array: StoredArray, digests: Sequence[int]
    ) -> None:
        self._cache = cache
        self._split = split
        self._array = array
        self._digests = digests
        self.shape = array.shape

    def read(self, start: int, stop: int) -> Tensor:
        self._require_memory(stop - start)
        try:
            return torch.from_numpy(self._array.read(start, stop, self._digests))
        except Damage as damage:
            key = self._array.key
            raise self._cache.damaged(self._split, damage.block, key, damage.what) from damage

    def _require_memory(self, rows: int) -> None:
        needed = rows * math.prod(self.shape[1:]) * self._array.dtype.itemsize
        if needed > (there := psutil.virtual_memory().total):
            raise StoreError(
                f"{self._cache.path}: {rows} rows of {self._array.key} of split {self._split!r} "
                f"must fit in the machine's {human_bytes(there)}, got {human_bytes(needed)}; read "
                "fewer rows at a time"
            )


def _identity(path: Path) -> tuple[int, ...]:
    """Identify the folder of the splits, which is another one after ``--overwrite``."""
    try:
        about = os.stat(path / SPLITS)
    except OSError:
        return ()
    return about.st_dev, about.st_ino


def inspect(path: str | Path) -> dict[str, Any]:
    """Describe a cache and what it takes on the disk, as JSON values.

    Returns:
        ``schema``, ``header`` fields, ``head``, names of the ``heads`` on features, ``splits``
        (role, rows, blocks, arrays with bytes raw and stored) and ``total``.

    Raises:
        StoreError: The path is not a cache, or its metadata are damaged or too new.
    """
    cache = open_cache(path)
    splits = {name: _describe(cache, name) for name in cache.splits}
    arrays = [array for split in splits.values() for array in split["arrays"]]
    return {
        "path": str(cache.path),
        "schema": cache.schema,
        "pipeline": cache.header.pipeline,
        "fingerprint": cache.header.fingerprint,
        "versions": cache.header.versions,
        "digest": cache.header.digest,
        "head": None if cache._head is None else cache._head["weight"]["shape"],
        "heads": list(cache.head_files),
        "splits": splits,
        "total": _sizes(*(sum(array[of] for array in arrays) for of in ("raw", "stored"))),
    }


def _describe(cache: Cache, name: str) -> dict[str, Any]:
    info = cache.splits[name]
    groups = zip(cache._stored[name].groups, cache._entries[name], strict=True)
    return {
        "role": info.role,
        "rows": info.rows,
        "block_rows": info.block_rows,
        "blocks": info.blocks,
        "committed": len(info.committed),
        "complete": info.complete,
        "data": info.data,
        "arrays": [about for group, entries in groups for about in _arrays(group, entries)],
    }


def _arrays(group: StoredGroup, entries: list[Entry]) -> Iterator[dict[str, Any]]:
    bounds = [group.spec.bounds(block) for block, entry in enumerate(entries) if entry]
    rows = sum(stop - start for start, stop in bounds)
    for spec in group.spec.arrays:
        yield {
            "key": spec.key,
            "shape": [group.spec.rows, *spec.tail],
            "dtype": spec.dtype,
            "codec": spec.codec,
            "committed": len(bounds),
            **_sizes(rows * spec.nbytes, _bytes_in(group.arrays[spec.key].folder)),
        }


def _sizes(raw: int, stored: int) -> dict[str, Any]:
    return {"raw": raw, "stored": stored, "ratio": raw / stored if stored else None}


def _bytes_in(folder: Path) -> int:
    files = (file for file in os.scandir(folder) if file.is_file(follow_symlinks=False))
    return sum(file.stat().st_size for file in files)
