"""Writing a cache: create or resume, one block at a time, safe against a kill at any point.

A split appears under its name only when its documents and its empty commit log are on the disk; a
digest appears in the log only when every shard of its block is on the disk. Whatever else a killed
run leaves behind is deleted by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from filelock import FileLock

from latentood import files
from latentood.errors import DataError, StoreError, suggest
from latentood.latents import HEAD
from latentood.latents.facts import Origin, canonical
from latentood.store.codecs import keep_mantissa
from latentood.store.conflicts import refuse_other_run, refuse_other_split
from latentood.store.disk import SPLITS, disk_errors, foreign_file, sweep, take_lock
from latentood.store.documents import DOCUMENT, group_document, same_document, write_document
from latentood.store.groups import StoredGroup
from latentood.store.heads import HEADS, foreign_head, sweep_heads
from latentood.store.root import Head, Root, StoredHead, read_root, refuse_foreign
from latentood.store.schema import ArraySpec, SplitSpec
from latentood.store.shards import Values
from latentood.store.splits import StoredSplit, list_splits, load_split


def open_writer(
    path: str | Path, origin: Origin, *, head: Head | None, overwrite: bool = False
) -> StoreWriter:
    """Create a cache in a folder, or open one to write what it still lacks.

    Args:
        path: Folder of the cache.
        origin: Where its numbers come from.
        head: Weight (C, D) and bias (C,) of the last linear layer.
        overwrite: Delete the content of an existing cache.

    Raises:
        FingerprintMismatch: The cache holds another run's results (names every field).
        StoreLocked: Another process is writing to it.
        StoreError: The path holds something else, a damaged or a newer cache.
        StoreFull: The disk is full.
    """
    store = Path(path)
    root = Root.of(origin, head)
    with disk_errors(store):
        refuse_foreign(store)
        if not store.is_dir():
            store.mkdir(parents=True)
            files.sync_folder(store.parent)
        return _locked(store, lambda: _prepare(store, root, head, overwrite=overwrite))


def reopen_writer(path: str | Path) -> StoreWriter:
    """Open a cache that is there, to add what follows from the arrays that it holds.

    Raises:
        StoreLocked: Another process is writing to it.
        StoreError: The path is not a cache, or it is damaged.
    """
    store = Path(path)
    read_root(store)  # nothing is written to what is no cache

    def prepare() -> Root:
        _sweep(store)
        return read_root(store)

    with disk_errors(store):
        return _locked(store, prepare)


def _locked(store: Path, prepare: Callable[[], Root]) -> StoreWriter:
    """Become the only writer of a store, then make it ready."""
    lock = take_lock(store)
    try:
        return StoreWriter(store, lock, prepare())
    except BaseException:
        lock.release()
        raise


class StoreWriter:
    """The one writer of a cache until it is closed; use :func:`open_writer`."""

    def __init__(self, path: Path, lock: FileLock, root: Root) -> None:
        self.path = path
        self._lock = lock
        self._root = root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def splits(self, specs: Iterable[SplitSpec]) -> dict[str, list[SplitWriter]]:
        """Create, resume or extend splits: name → what :meth:`split` gives.

        If one does not fit, an error of :meth:`split` is raised and nothing is changed.
        """
        wanted = list(specs)
        with disk_errors(self.path):
            there = list_splits(self.path)
            for spec in wanted:
                if spec.name in there:
                    refuse_other_split(
                        self.path, load_split(self.path, self._root, spec.name), spec
                    )
            # The pipeline may name more splits now. The versions stay those of the first blocks.
            before, now = read_root(self.path).origin.pipeline, self._root.origin.pipeline
            if canonical(before) != canonical(now):
                self._root.write(self.path)
        return {spec.name: self.split(spec) for spec in wanted}

    def split(self, spec: SplitSpec) -> list[SplitWriter]:
        """Create a split, or resume it; arrays it does not have yet become one more group.

        Gives a writer for each group with any of the wanted arrays; other groups stay as they are.

        Raises:
            FingerprintMismatch: It was begun with other rows, data or settings (names the field).
            IncompleteSplit: It was begun with arrays that are not in ``spec``.
            StoreError: It is damaged, or the disk refuses.
        """
        with disk_errors(self.path):
            if spec.name not in list_splits(self.path):
                StoredSplit(self.path / SPLITS / spec.name, spec, self._root).create()
            stored = load_split(self.path, self._root, spec.name)
            refuse_other_split(self.path, stored, spec)
            if stored.spec.role != spec.role:  # a new role changes no number
                spec_now = replace(stored.spec, role=spec.role)
                stored = StoredSplit(stored.folder, spec_now, self._root)
            stored.mend_documents()
            stored.sweep()
            if new := [array for array in spec.arrays if array.key not in stored.arrays]:
                stored = stored.grow(new)
            asked = {array.key for array in spec.arrays}
            groups = [group for group in stored.groups if asked & group.arrays.keys()]
            return [SplitWriter(self.path, group) for group in groups]

    def add(self, split: str, arrays: Sequence[ArraySpec], *, anew: bool) -> SplitWriter:
        """Add arrays to a split as one more group, or go on with one that was begun.

        Arrays of the same names that were made otherwise are withdrawn first with ``anew``.

        Raises:
            FingerprintMismatch: They are there, made otherwise, and are not to be replaced.
            StoreError: It is damaged, or the disk refuses; or a group to be replaced has others.
        """
        with disk_errors(self.path):
            stored = load_split(self.path, self._root, split)
            if anew:
                stored = stored.remake(arrays)
        return self.split(replace(stored.spec, arrays=tuple(arrays)))[0]


class SplitWriter:
    """Writes the missing blocks of one group of a split; use :meth:`StoreWriter.split`.

    Attributes:
        spec: The split, with the arrays of this group alone.
    """

    def __init__(self, store: Path, group: StoredGroup) -> None:
        self._store = store
        self._group = group
        self.spec = group.spec
        # A block with a damaged entry in the log is written again.
        self._pending = [block for block, entry in enumerate(group.entries()) if not entry]
        for block in self._pending:
            group.clear(block)

    def pending(self) -> list[int]:
        """List the blocks that are still to be written, in order."""
        return list(self._pending)

    def bounds(self, block: int) -> tuple[int, int]:
        """First row of a block, and the row after its last."""
        return self.spec.bounds(block)

    def write(self, block: int, arrays: Mapping[str, Values]) -> int:
        """Put a pending block on the disk and commit it; gives the bytes on the disk.

        ``arrays`` has the rows of the block for every key of the group; those with ``keep_bits``
        are rounded here.

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
        for array in self.spec.arrays:
            if array.keep_bits is not None:
                values[array.key] = keep_mantissa(values[array.key], array.keep_bits)
        with disk_errors(self._store):
            written = self._group.write(block, values)
        self._pending.remove(block)
        return written

    def _check(self, block: int, values: Mapping[str, Values]) -> None:
        who = f"split {self.spec.name!r}, block {block}"
        start, stop = self.bounds(block)
        known = [array.key for array in self.spec.arrays]
        for key in values:
            if key not in known:
                raise DataError(f"{who}: no array {key!r} was declared; {suggest(key, known)}")
        for array in self.spec.arrays:
            if array.key not in values:
                raise DataError(f"{who}: {array.key} is missing; give every array of the group")
            given = values[array.key]
            wanted = (stop - start, *array.tail)
            if given.shape != wanted or given.dtype.name != array.dtype:
                raise DataError(
                    f"{who}: {array.key} must be {array.dtype} {wanted}, got {given.dtype} "
                    f"{given.shape}; look at what computes it"
                )


def _prepare(store: Path, root: Root, head: Head | None, *, overwrite: bool) -> Root:
    """Make a store ready for its splits; every step may have been done by a killed run.

    Gives the root as it will be once the splits are known to fit.
    """
    splits = store / SPLITS
    _sweep(store)
    if overwrite and (store / DOCUMENT).exists():
        read_root(store)  # only a cache of latentood is ever deleted
        _put_aside(store)
        root.write(store)
    elif (store / DOCUMENT).exists():
        stored_root = read_root(store)
        refuse_other_run(store, stored_root, root)
        kept = stored_root.origin
        origin = Origin(root.origin.pipeline, kept.fingerprint, kept.versions)
        root = replace(stored_root, origin=origin)
    else:
        root.write(store)
    if root.head is not None and head is not None:
        stored = StoredHead(store, root.head)
        if stored.damage() is not None:
            stored.write({"weight": np.asarray(head[0]), "bias": np.asarray(head[1])})
    if not same_document(splits, group_document()):
        splits.mkdir(exist_ok=True)
        write_document(splits, group_document())
        files.sync_folder(store)
    if overwrite:
        _sweep(store)
    return root


def _sweep(store: Path) -> None:
    sweep(store)
    sweep_heads(store)


def _put_aside(store: Path) -> None:
    """Take everything of a store from under its name, so that a reader sees all of it or nothing.

    Raises:
        StoreError: Something lies there that latentood did not write.
    """
    found = [foreign_file(store / name) for name in (SPLITS, HEAD) if (store / name).is_dir()]
    for foreign in (*found, foreign_head(store)):
        if foreign is not None:
            raise StoreError(
                f"{foreign}: --overwrite deletes only what latentood wrote, and this is something "
                "else; move it out of the cache first"
            )
    for name in (SPLITS, HEAD, HEADS):
        files.put_aside(store / name)


def _some(blocks: list[int]) -> str:
    if not blocks:
        return "none"
    return ", ".join(map(str, blocks[:8])) + (", …" if len(blocks) > 8 else "")
