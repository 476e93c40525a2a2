"""Finding damage: every committed block is read and hashed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentood import files
from latentood.errors import DamagedBlock
from latentood.latents import HEAD
from latentood.store.disk import disk_errors, sweep, take_lock
from latentood.store.groups import Entry, StoredGroup
from latentood.store.heads import HEADS, head_files
from latentood.store.root import Root, StoredHead, read_root
from latentood.store.shards import Damage, Values
from latentood.store.splits import list_splits, load_split

_MISPLACED = "its rows are not those that were committed in this place"
_NOT_TOGETHER = "its arrays are not those that were committed together"


@dataclass(frozen=True)
class Problem:
    """One piece of damage."""

    split: str | None  # None for a head
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
    root = read_root(store)
    problems = list(_check_heads(store, root))
    splits = [load_split(store, root, name) for name in list_splits(store)]
    total = sum(split.spec.blocks * split.spec.groups for split in splits)
    done = 0
    for split in splits:
        for folder in split.damaged_documents():
            what = f"{folder}/zarr.json is missing or was changed"
            problems.append(Problem(split.spec.name, None, folder, what))
        for group in split.groups:
            for block, entry in enumerate(group.entries()):
                problems += _check(group, block, entry)
                done += 1
                if progress is not None:
                    progress(done, total)
    return problems


def discard(path: str | Path, problems: Iterable[Problem]) -> None:
    """Take back the commits of damaged blocks, so that ``extract`` computes exactly them again.

    Damaged documents are written again at once, and a damaged head is removed for ``extract``, or
    ``train --from``, to write.

    Raises:
        StoreLocked: Another process is writing to the cache.
        StoreError: The path is not a cache, or the disk refuses.
    """
    store = Path(path)
    root = read_root(store)
    with disk_errors(store):
        lock = take_lock(store)
        try:
            sweep(store)
            for problem in problems:
                _discard(store, root, problem)
        finally:
            lock.release()


def _discard(store: Path, root: Root, problem: Problem) -> None:
    if problem.split is None:
        if problem.array == HEAD:
            files.throw_away(store / HEAD)
        else:
            files.remove(head_files(store)[str(problem.array).removeprefix(f"{HEADS}/")])
        return
    split = load_split(store, root, problem.split)
    if problem.block is None:
        split.mend_documents()
    else:
        split.groups[problem.group].withdraw(problem.block)


def _check_heads(store: Path, root: Root) -> Iterator[Problem]:
    if root.head is not None and (what := StoredHead(store, root.head).damage()) is not None:
        yield Problem(None, None, HEAD, what)
    for name, file in head_files(store).items():
        from latentood.store.cache import read_head  # needs torch, which nothing else here does

        try:
            read_head(file)
        except DamagedBlock as error:
            yield Problem(None, None, f"{HEADS}/{name}", str(error))


def _check(group: StoredGroup, block: int, entry: Entry) -> Iterator[Problem]:
    def problem(array: str | None, what: str) -> Problem:
        return Problem(group.spec.name, block, array, what, group.number)

    if entry == ():
        return
    if entry is None:
        yield problem(group.log.key, "its entry is missing or unreadable")
    arrays: dict[str, Values] = {}
    for key, array in group.arrays.items():
        try:
            arrays[key] = array.read_block(block)
        except Damage as damage:
            yield problem(key, damage.what)
    for misplaced in group.misplaced(block, entry, arrays):
        yield problem(misplaced, _MISPLACED if misplaced else _NOT_TOGETHER)
