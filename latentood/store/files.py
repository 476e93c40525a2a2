"""Files that are there whole or not at all.

A file or a folder in the making carries the suffix ``~partial`` (no name in a cache may hold a
``~``) and gets its name by one rename when it is finished and on the disk. So whatever a killed
process leaves behind is either finished or recognisable, and :func:`sweep` throws it away.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from latentood.errors import LatentOODError, StoreError, StoreFull, StoreLocked
from latentood.units import human_bytes

UNFINISHED = "~partial"
LOCK = ".lock"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Put a whole file in place; its folder still has to be synced."""
    draft = _draft(path)
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):  # a full disk wants its room back
            os.unlink(draft)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under another name, then put it in place with all that is in it."""
    draft = _draft(path)
    remove(draft)
    os.mkdir(draft)
    yield draft
    for folder, _, _ in os.walk(draft):
        sync_folder(Path(folder))
    os.rename(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":  # Windows cannot open a folder, and needs no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there; a link is deleted, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def throw_away(path: Path) -> None:
    """Delete a folder so that a kill leaves all of it under its name, or nothing."""
    draft = _draft(path)
    remove(draft)
    if path.is_symlink() or path.exists():
        os.rename(path, draft)
        sync_folder(path.parent)
        remove(draft)


def sweep(store: Path) -> None:
    """Delete everything a killed writer left unfinished."""
    for folder, folders, files in os.walk(store):
        for name in [name for name in (*folders, *files) if name.endswith(UNFINISHED)]:
            remove(Path(folder, name))
        folders[:] = [name for name in folders if not name.endswith(UNFINISHED)]


def take_lock(store: Path) -> FileLock:
    """Become the only writer of a store; the system gives the lock back when we are killed.

    Raises:
        StoreLocked: Another writer is at work.
    """
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
    """Say in one sentence what the disk refused.

    Raises:
        StoreFull: No space or quota is left.
        StoreError: Anything else the system reports.
    """
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
    """Check before a long run that the disk can hold its result.

    Args:
        path: The store; it need not exist yet.
        nbytes: What will be written.

    Raises:
        StoreFull: There is less free space than that.
    """
    if (free := free_bytes(path)) < nbytes:
        raise StoreFull(
            f"{path}: needs {human_bytes(nbytes)}, but only {human_bytes(free)} are free; "
            "free some space, choose another --store or keep fewer layers"
        )


def free_bytes(path: str | Path) -> int:
    """Ask how much the disk of a path can still take; the path need not exist yet."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _draft(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)
