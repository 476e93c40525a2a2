"""The disk of a store: the lock of its one writer, unfinished files, errors and free space."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latentood.errors import LatentOODError, StoreError, StoreFull, StoreLocked
from latentood.files import UNFINISHED, human_bytes, remove

LOCK = ".lock"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def sweep(store: Path) -> None:
    """Delete everything a killed writer left unfinished."""
    for folder, folders, files in os.walk(store):
        for name in [name for name in (*folders, *files) if name.endswith(UNFINISHED)]:
            remove(Path(folder, name))
        folders[:] = [name for name in folders if not name.endswith(UNFINISHED)]


def take_lock(store: Path) -> FileLock:
    """Become the only writer of a store, or raise; the system releases the lock of a killed one."""
    lock = FileLock(store / LOCK, timeout=0, thread_local=False)
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
