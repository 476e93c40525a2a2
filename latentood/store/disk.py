"""The disk of a store: the lock of its one writer, unfinished files, errors and free space."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latentood.errors import LatentOODError, StoreError, StoreFull, StoreLocked
from latentood.files import UNFINISHED, human_bytes, remove
from latentood.latents import HEAD

LOCK = ".lock"
SPLITS = "splits"

_FULL = (errno.ENOSPC, errno.EDQUOT)


_OURS = re.compile(r"(zarr\.json|c\.\d+(\.0)*)(\.\d+)?(~partial)?|\.DS_Store")
"""Files that a writer puts below the root of a store, and one that a file browser leaves."""


def require_folder(path: Path) -> None:
    """Refuse a link, or anything else, in place of a folder of a store; there may be nothing.

    Below its root nothing of a store is followed, so that nothing beside it is read or written.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise StoreError(
            f"{path}: everything in a cache must lie in its own folders, but this is "
            f"{'a link' if stat.S_ISLNK(mode) else 'no folder'}; put the folder itself there, or "
            "extract into another --store"
        )


def foreign_file(folder: Path) -> Path | None:
    """Name something in a folder, at any depth, that no writer of a store can have put there."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            if (inside := foreign_file(Path(entry.path))) is not None:
                return inside
        elif not entry.is_file(follow_symlinks=False) or not _OURS.fullmatch(entry.name):
            return Path(entry.path)
    return None


def sweep(store: Path) -> None:
    """Delete what a killed writer left unfinished; whatever else lies there stays.

    Raises:
        StoreError: A link is in place of the splits or the head.
    """
    folders = [store / SPLITS, store / HEAD]
    for folder in folders:
        require_folder(folder)
    for inside, _, names in os.walk(store):
        for name in names:
            if name.endswith(UNFINISHED) and _OURS.fullmatch(name):
                remove(Path(inside, name))
    drafts = [folder.with_name(folder.name + UNFINISHED) for folder in folders]
    for draft in (*drafts, *(store / SPLITS).glob(f"*{UNFINISHED}")):
        if draft.is_dir() and not draft.is_symlink() and foreign_file(draft) is None:
            remove(draft)


def take_lock(store: Path) -> FileLock:
    """Become the only writer of a store, or raise; the system releases the lock of a killed one."""
    file = store / LOCK
    if os.path.lexists(file) and not stat.S_ISREG(os.lstat(file).st_mode):
        raise StoreError(
            f"{file}: must be a file of its own, but is a link or no file; delete it and run the "
            "same command again"
        )
    lock = FileLock(file, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise StoreLocked(
            f"{store}: only one process may write to a cache, and another is writing now; "
            "wait for it to end or choose another --store"
        ) from None
    return lock


@contextmanager
def disk_errors(store: Path) -> Iterator[None]:
    """Turn errors of the system into :class:`StoreFull` or :class:`StoreError`."""
    try:
        yield
    except LatentOODError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"{store}: the disk is full; the blocks committed so far are kept, "
                "so free some space and run the same command again"
            ) from error
        raise StoreError(
            f"{store}: the system refused with {error.strerror or error!s}"
            f"{f' ({error.filename})' if error.filename else ''}; the blocks committed so far "
            "are kept, so mend the disk or its permissions and run the same command again"
        ) from error


def require_free(path: str | Path, nbytes: int) -> None:
    """Check before a long run that the disk of a store, which need not exist yet, has the space.

    Raises:
        StoreFull: There are fewer bytes free.
    """
    if (free := free_bytes(path)) < nbytes:
        raise StoreFull(
            f"{path}: needs {human_bytes(nbytes)}, but only {human_bytes(free)} are free; "
            "free some space, choose another --store or keep fewer layers"
        )


def free_bytes(path: str | Path) -> int:
    """Give the free bytes on the disk of a path, which need not exist yet."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
