"""Finding damage: every committed block is read and hashed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentood import files
from latentood.latents import HEAD
from latentood.store.disk import disk_errors, take_lock
from latentood.store.groups import StoredGroup
from latentood.store.root import StoredHead, read_root
from latentood.store.shards import Damage, Values, block_digest
from latentood.store.splits import list_splits, load_split


@dataclass(frozen=True)
class Problem:
    """One piece of damage."""

    split: str | None  # None for the classifier head
    block: int | None  # None for a document that all blocks share
    array: str | None  # None if the arrays of a block are readable, but not committed together
    what: str  # the damage in words
    group: int = 0  # number of the array group

    def __str__(self) -> str:
        where = [] if self.split is None else [f"split {self.split!r}"]
        where += [] if self.block is None else [f"block {self.block}"]
        return f"{', '.join([*where, *([self.array] if self.array else [])])}: {self.what}"


def verify(
    path: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Read and hash everything a cache holds.

    Args:
        path: The cache.
        progress: Called with (blocks done, blocks in all) after every block.

    Returns:
        All damage; blocks that were never committed are none.

    Raises:
        StoreError: The path is not a cache, or the metadata of the store or of a split are
            damaged, so that nothing is known about its blocks.
    """
    store = Path(path)
    about = read_root(store).head
    problems: list[Problem] = []
    if about is not None and (what := StoredHead(store, about).damage()) is not None:
        problems.append(Problem(None, None, HEAD, what))
    splits = [load_split(store, name) for name in list_splits(store)]
    total = sum(split.spec.blocks * split.spec.groups for split in splits)
    done = 0
    for split in splits:
        for folder in split.damaged_documents():
            what = f"{folder}/zarr.json is missing or was changed"
            problems.append(Problem(split.spec.name, None, folder, what))
        for group in split.groups:
            for block, digest in enumerate(group.digests()):
                problems += _check(group, block, digest)
                done += 1
                if progress is not None:
                    progress(done, total)
    return problems


def discard(path: str | Path, problems: Iterable[Problem]) -> None:
    """Take back the commits of damaged blocks, so that ``extract`` computes exactly them again.

    Damaged documents are written again at once, and a damaged head is removed for ``extract``
    to write.

    Raises:
        StoreLocked: Another process is writing to the cache.
        StoreError: The path is not a cache, or the disk refuses.
    """
    store = Path(path)
    read_root(store)
    with disk_errors(store):
        lock = take_lock(store)
        try:
            for problem in problems:
                _discard(store, problem)
        finally:
            lock.release()


def _discard(store: Path, problem: Problem) -> None:
    if problem.split is None:
        files.throw_away(store / HEAD)
        return
    split = load_split(store, problem.split)
    if problem.block is None:
        split.mend_documents()
    else:
        split.groups[problem.group].commit(problem.block, 0)


def _check(group: StoredGroup, block: int, digest: int | None) -> Iterator[Problem]:
    def problem(array: str | None, what: str) -> Problem:
        return Problem(group.spec.name, block, array, what, group.number)

    if digest == 0:
        return
    if digest is None:
        yield problem(group.log.key, "its entry is missing or unreadable")
    arrays: list[tuple[str, Values]] = []
    for key, array in group.arrays.items():
        try:
            arrays.append((key, array.read_block(block)))
        except Damage as damage:
            yield problem(key, damage.what)
    if digest is not None and len(arrays) == len(group.arrays) and block_digest(arrays) != digest:
        yield problem(None, "its arrays are not those that were committed together")
