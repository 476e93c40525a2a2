"""Writing of files and folders that are there whole or not at all.

An unfinished file or folder has the suffix ``~partial`` and gets its name by one rename when it is
finished and on the disk; then its parent folder is synced, so that the name is on the disk as well.
Whatever a killed process leaves behind is either finished or has that suffix.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = "~partial"


def write_file(path: Path, data: bytes | memoryview, *, sync: bool = True) -> None:
    """Put a whole file in place, instead of one that is there.

    Without ``sync`` the caller syncs the folder, once for several files.
    """
    with new_file(path, sync=sync) as draft, open(draft, "wb") as file:
        file.write(data)


@contextmanager
def new_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give the path of a draft to write to; without an error it is put in place at the end."""
    draft = path.with_name(
        f"{path.name}.{os.getpid()}{UNFINISHED}"
    )  # another process may write it, too
    try:
        yield draft
        _sync(draft)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):  # frees the space on a full disk
            os.unlink(draft)
        raise
    if sync:
        sync_folder(path.parent)


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
    _sync(folder)


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


def _draft(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def human_bytes(count: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
