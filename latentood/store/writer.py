"""Writing a cache: create or resume, one block at a time, safe against a kill at any point.

The order of things is the whole idea. A split appears under its name only when its documents
and its empty commit log are on the disk; a digest appears in the log only when every shard of
its block is on the disk. Whatever else a killed run leaves behind is thrown away by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock

from latentood.errors import DataError, FingerprintMismatch, StoreError, suggest
from latentood.store import files
from latentood.store.documents import DOCUMENT, group_document, same_document, write_document
from latentood.store.files import disk_errors, require_free
from latentood.store.fingerprint import canonical
from latentood.store.root import HEAD, Head, Root, StoredHead, read_root, refuse_foreign
from latentood.store.schema import Header, SplitSpec
from latentood.store.shards import Values
from latentood.store.splits import SPLITS, StoredSplit, list_splits, load_split

__all__ = ["SplitWriter", "StoreWriter", "open_writer", "require_free"]


def open_writer(
    path: str | Path, header: Header, *, head: Head | None, overwrite: bool = False
) -> StoreWriter:
    """Create a cache, or open one to write what it still lacks.

    Args:
        path: Folder of the cache.
        header: Where its numbers come from.
        head: Weight (C, D) and bias (C,) of the last linear layer.
        overwrite: Throw away what an existing cache holds.

    Returns:
        The writer, to be used as a context manager; it is the only one until it is closed.

    Raises:
        FingerprintMismatch: The cache holds another run's results (names every field).
        StoreLocked: Another process is writing to it.
        StoreError: The path holds something else, a damaged or a newer cache.
        StoreFull: The disk is full.
    """
    store = Path(path)
    root = Root.of(header, head)
    with disk_errors(store):
        refuse_foreign(store)
        if not store.is_dir():
            store.mkdir(parents=True)
            files.sync_folder(store.parent)
        lock = files.take_lock(store)
        try:
            root = _prepare(store, root, head, overwrite=overwrite)
        except BaseException:
            lock.release()
            raise
    return StoreWriter(store, lock, root)


class StoreWriter:
    """The one writer of a cache; use :func:`open_writer`."""

    def __init__(self, path: Path, lock: FileLock, root: Root) -> None:
        self.path = path
        self._lock = lock
        self._root = root

    def __enter__(self) -> Self:
        """Go on being the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others write."""
        self.close()

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def splits(self, specs: Iterable[SplitSpec]) -> dict[str, SplitWriter]:
        """Create or resume splits; if one does not fit, nothing is changed.

        Raises:
            FingerprintMismatch: One was begun with other rows, arrays or data (names the field).
            StoreError: One is damaged, or the disk refuses.
        """
        wanted = list(specs)
        with disk_errors(self.path):
            there = list_splits(self.path)
            for spec in wanted:
                if spec.name in there:
                    stored = load_split(self.path, spec.name).spec
                    _refuse_other_split(self.path, stored, spec)
            # The pipeline may name more splits now. The versions stay those of the first blocks.
            if canonical(read_root(self.path).header.pipeline) != canonical(
                self._root.header.pipeline
            ):
                self._root.write(self.path)
        return {spec.name: self.split(spec) for spec in wanted}

    def split(self, spec: SplitSpec) -> SplitWriter:
        """Create a split, or resume it.

        Raises:
            FingerprintMismatch: It was begun with other rows, arrays or data (names the field).
            StoreError: It is damaged, or the disk refuses.
        """
        with disk_errors(self.path):
            if spec.name not in list_splits(self.path):
                StoredSplit(self.path / SPLITS / spec.name, spec).create()
                return SplitWriter(self.path, load_split(self.path, spec.name))
            stored = load_split(self.path, spec.name)
            _refuse_other_split(self.path, stored.spec, spec)
            if stored.spec.role != spec.role:  # a new role changes no number
                kept = SplitSpec.from_json(stored.spec.to_json() | {"role": spec.role})
                stored = StoredSplit(stored.folder, kept)
            stored.mend_documents()
            return SplitWriter(self.path, stored)


class SplitWriter:
    """Writes the blocks of one split that are not there yet; use :meth:`StoreWriter.split`."""

    def __init__(self, store: Path, stored: StoredSplit) -> None:
        self._store = store
        self._stored = stored
        self.spec = stored.spec
        # A damaged entry of the log says nothing about its block, so that block is done again.
        self._pending = [block for block, digest in enumerate(stored.digests()) if not digest]
        for block in self._pending:
            stored.clear(block)

    def pending(self) -> list[int]:
        """List the blocks that are still to be written, in order."""
        return list(self._pending)

    def bounds(self, block: int) -> tuple[int, int]:
        """First row of a block, and the row after its last."""
        return self.spec.bounds(block)

    def write(self, block: int, arrays: Mapping[str, Values]) -> None:
        """Put a block on the disk and commit it.

        Args:
            block: One of :meth:`pending`.
            arrays: key → rows of the block, for every array of the split.

        Raises:
            DataError: An array is missing, unknown, or has another shape or dtype.
            StoreError: The block is committed already, or the disk refuses.
            StoreFull: The disk is full; this block is not committed, the others are.
        """
        if block not in self._pending:
            raise StoreError(
                f"{self._store}: split {self.spec.name!r} waits for blocks {_some(self._pending)}, "
                f"got block {block}; write only blocks that are pending"
            )
        values = {key: np.asarray(array) for key, array in arrays.items()}
        self._check(block, values)
        with disk_errors(self._store):
            self._stored.write(block, values)
        self._pending.remove(block)

    def _check(self, block: int, values: Mapping[str, Values]) -> None:
        who = f"split {self.spec.name!r}, block {block}"
        start, stop = self.bounds(block)
        known = [array.key for array in self.spec.arrays]
        for key in values:
            if key not in known:
                raise DataError(f"{who}: no array {key!r} was declared; {suggest(key, known)}")
        for array in self.spec.arrays:
            if array.key not in values:
                raise DataError(f"{who}: {array.key} is missing; give every array of the split")
            given = values[array.key]
            wanted = (stop - start, *array.tail)
            if given.shape != wanted or given.dtype.name != array.dtype:
                raise DataError(
                    f"{who}: {array.key} must be {array.dtype} {wanted}, got {given.dtype} "
                    f"{given.shape}; look at what computes it"
                )


def _prepare(store: Path, root: Root, head: Head | None, *, overwrite: bool) -> Root:
    """Make a store ready for its splits; every step may have been done by a killed run.

    Returns:
        The root as it will be once the splits are known to fit.
    """
    files.sweep(store)
    if overwrite and (store / DOCUMENT).exists():
        read_root(store)  # only what is ours is ever deleted
        for name in (SPLITS, HEAD):
            files.throw_away(store / name)
        root.write(store)
    elif (store / DOCUMENT).exists():
        found = read_root(store)
        _refuse_other_run(store, found, root)
        kept = found.header
        root = Root(Header(root.header.pipeline, kept.fingerprint, kept.versions), found.head)
    else:
        root.write(store)
    if root.head is not None and head is not None:
        stored = StoredHead(store, root.head)
        if stored.damage() is not None:
            stored.write({"weight": np.asarray(head[0]), "bias": np.asarray(head[1])})
    if not same_document(store / SPLITS, group_document()):
        (store / SPLITS).mkdir(exist_ok=True)
        write_document(store / SPLITS, group_document())
        files.sync_folder(store / SPLITS)
        files.sync_folder(store)
    return root


def _refuse_other_run(store: Path, found: Root, given: Root) -> None:
    def fields(root: Root) -> dict[str, Any]:
        head = None if root.head is None else root.head["digest"]
        return {**root.header.fingerprint, "head weights": head}

    _refuse(store, "the results of another run", fields(found), fields(given))


def _refuse_other_split(store: Path, found: SplitSpec, given: SplitSpec) -> None:
    def fields(spec: SplitSpec) -> dict[str, Any]:
        arrays = {f"array {a.key}": [a.dtype, *a.tail] for a in spec.arrays}
        data = {f"data.{key}": value for key, value in spec.data.items()}
        return {"rows": spec.rows, "block_rows": spec.block_rows, **arrays, **data}

    _refuse(store, f"another split {given.name!r}", fields(found), fields(given))


def _refuse(store: Path, what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    absent = object()
    differing = []
    for field in dict.fromkeys((*there, *here)):
        pair = [values.get(field, absent) for values in (there, here)]
        shown = ["absent" if value is absent else canonical(value) for value in pair]
        if shown[0] != shown[1]:
            differing.append(f"{field} is {_short(shown[0])} there but {_short(shown[1])} here")
    if differing:
        raise FingerprintMismatch(
            f"{store}: holds {what}: {'; '.join(differing)}; "
            "choose another --store, or --overwrite to throw the old results away"
        )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}…{text[-19:]}"


def _some(blocks: list[int]) -> str:
    if not blocks:
        return "none"
    return ", ".join(map(str, blocks[:8])) + (", …" if len(blocks) > 8 else "")
