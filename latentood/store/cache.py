"""Reading a cache: committed blocks only, and damage is an error that names its block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentood.errors import DamagedBlock, IncompleteSplit, StoreError, unknown
from latentood.latents import Latents
from latentood.store.documents import COMMITTED
from latentood.store.root import HEAD, StoredHead, read_root
from latentood.store.schema import IDS, SCHEMA, SCORES, ArraySpec, Header, decode_ids
from latentood.store.shards import Damage, StoredArray
from latentood.store.splits import StoredSplit, list_splits, load_split


def open_cache(path: str | Path) -> Cache:
    """Open a cache for reading; arrays are read when they are used.

    Raises:
        StoreError: The path is not a cache, or its metadata are damaged or too new.
    """
    return Cache(Path(path))


@dataclass(frozen=True)
class SplitInfo:
    """What a split holds.

    Args:
        name: Its name.
        role: ``fit``, ``val``, ``id``, ``near`` or ``far``.
        rows: N.
        block_rows: R, rows of a block.
        blocks: Number of blocks.
        committed: The blocks that are there.
        arrays: What is kept of each row, ids and scores included.
        data: Provenance of the data set.
    """

    name: str
    role: str
    rows: int
    block_rows: int
    blocks: int
    committed: tuple[int, ...]
    arrays: tuple[ArraySpec, ...]
    data: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every block is there."""
        return len(self.committed) == self.blocks


class Cache:
    """A cache on disk; use :func:`open_cache`.

    Attributes:
        path: Its folder.
        header: Where its numbers come from.
        splits: name → what the split holds, in the order of names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        root = read_root(path)
        self.header: Header = root.header
        self._head = root.head
        try:
            self._stored = {name: load_split(path, name) for name in list_splits(path)}
            self._digests = {name: split.digests() for name, split in self._stored.items()}
        except PermissionError as error:
            raise StoreError(
                f"{path}: every file must be readable, but {error.filename} is not; "
                "change its permissions"
            ) from error
        self.splits = {name: self._info(split) for name, split in self._stored.items()}

    def __repr__(self) -> str:
        """Show path and splits."""
        return f"Cache({str(self.path)!r}, splits: {', '.join(self.splits) or 'none'})"

    def __getitem__(self, split: str) -> Latents:
        """Give the rows of a split, without its ids and score columns.

        Raises:
            UnknownName: There is no such split (names the nearest).
            IncompleteSplit: Its extraction has not finished.
            DamagedBlock: Its commit log is damaged; or, once read, an array or the head.
        """
        arrays = self._complete(split).arrays
        rows = {
            key: _Rows(self, split, array)
            for key, array in arrays.items()
            if key != IDS and not key.startswith(f"{SCORES}/")
        }
        origin = f"{self.header.digest}:{split}"
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
            raise DamagedBlock(
                f"{self.path}: the {HEAD} is damaged: {damage.what}; run latentood extract to "
                "write it again"
            ) from damage
        return torch.from_numpy(weight), torch.from_numpy(bias)

    def ids(self, split: str) -> list[str]:
        """Read the ids of a split's rows, e.g. file names."""
        return decode_ids(self._whole(split, IDS).numpy())

    def column(self, split: str, name: str) -> Tensor:
        """Read a score column (N,) that was computed during extraction."""
        return self._whole(split, f"{SCORES}/{name}")

    def of_role(self, *roles: str) -> list[str]:
        """Name the splits that have one of these roles."""
        return [name for name, split in self.splits.items() if split.role in roles]

    def _whole(self, split: str, key: str) -> Tensor:
        arrays = self._complete(split).arrays
        if key not in arrays:
            raise unknown(f"array in split {split!r}", key, arrays)
        return _Rows(self, split, arrays[key]).read(0, self.splits[split].rows)

    def _complete(self, split: str) -> StoredSplit:
        if split not in self._stored:
            raise unknown(f"split in {self.path}", split, self._stored)
        digests = self._digests[split]
        if None in digests:
            raise self.damaged(split, digests.index(None), COMMITTED, "its entry is unreadable")
        info = self.splits[split]
        if not info.complete:
            raise IncompleteSplit(
                f"{self.path}: split {split!r} has {len(info.committed)} of {info.blocks} blocks; "
                "resume with latentood extract"
            )
        return self._stored[split]

    def _info(self, stored: StoredSplit) -> SplitInfo:
        spec = stored.spec
        committed = tuple(block for block, digest in enumerate(self._digests[spec.name]) if digest)
        return SplitInfo(
            spec.name, spec.role, spec.rows, spec.block_rows, spec.blocks, committed,
            spec.arrays, spec.data,
        )  # fmt: skip

    def damaged(self, split: str, block: int, array: str, what: str) -> DamagedBlock:
        """Build the error for a block that is not what was written."""
        return DamagedBlock(
            f"{self.path}: split {split!r}, block {block}: {array} is damaged: {what}; run "
            "latentood verify --discard, then latentood extract to compute it again"
        )


class _Rows:
    """The rows of one array, read on demand."""

    def __init__(self, cache: Cache, split: str, array: StoredArray) -> None:
        self._cache = cache
        self._split = split
        self._array = array
        self.shape = array.shape

    def read(self, start: int, stop: int) -> Tensor:
        try:
            return torch.from_numpy(self._array.read(start, stop))
        except Damage as damage:
            key = self._array.key
            raise self._cache.damaged(self._split, damage.block, key, damage.what) from damage


def inspect(path: str | Path) -> dict[str, Any]:
    """Describe a cache and what it takes on the disk, as JSON values.

    Returns:
        ``schema``, ``header`` fields, ``head``, ``splits`` (role, rows, blocks, arrays with bytes
        raw and stored) and ``total``.

    Raises:
        StoreError: The path is not a cache, or its metadata are damaged or too new.
    """
    cache = open_cache(path)
    splits = {name: _describe(cache, name) for name in cache.splits}
    arrays = [array for split in splits.values() for array in split["arrays"]]
    return {
        "path": str(cache.path),
        "schema": SCHEMA,
        "pipeline": cache.header.pipeline,
        "fingerprint": cache.header.fingerprint,
        "versions": cache.header.versions,
        "digest": cache.header.digest,
        "head": None if cache._head is None else cache._head["weight"]["shape"],
        "splits": splits,
        "total": _sizes(*(sum(array[of] for array in arrays) for of in ("raw", "stored"))),
    }


def _describe(cache: Cache, name: str) -> dict[str, Any]:
    info, stored = cache.splits[name], cache._stored[name]
    rows = sum(high - low for low, high in map(stored.spec.bounds, info.committed))
    arrays = [
        {
            "key": spec.key,
            "shape": [info.rows, *spec.tail],
            "dtype": spec.dtype,
            **_sizes(rows * spec.nbytes, _bytes_in(stored.arrays[spec.key].folder)),
        }
        for spec in info.arrays
    ]
    return {
        "role": info.role,
        "rows": info.rows,
        "block_rows": info.block_rows,
        "blocks": info.blocks,
        "committed": len(info.committed),
        "complete": info.complete,
        "data": info.data,
        "arrays": arrays,
    }


def _sizes(raw: int, stored: int) -> dict[str, Any]:
    return {"raw": raw, "stored": stored, "ratio": raw / stored if stored else None}


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
