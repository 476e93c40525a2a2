"""Writing of files and folders that are there whole or not at all.

An unfinished file or folder has the suffix ``~partial`` and gets its name by one rename when it is
finished and on the disk; then its parent folder is synced, so that the name is on the disk as well.
Whatever a killed process leaves behind is either finished or has that suffix.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = "~partial"

_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)


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
    _create(draft)
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
    put_aside(path)
    remove(_draft(path))


def put_aside(path: Path) -> None:
    """Take a folder, if it is there, from under its name by one rename; it is then unfinished."""
    if os.path.lexists(path):
        os.rename(path, _draft(path))
        sync_folder(path.parent)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a link is not followed, and no pipe or device is waited for.

    Raises:
        OSError: It is not there, or no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link", os.fspath(path)) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))


def read_regular(path: Path, most: int) -> bytes:
    """Read a whole file of at most so many bytes; see :func:`open_regular`."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {human_bytes(most)}", os.fspath(path))
    return data


def _create(draft: Path) -> None:
    """Create an empty file; what a killed process, or a link, left under that name is replaced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
    try:
        descriptor = os.open(draft, flags, 0o666)
    except FileExistsError:
        os.unlink(draft)
        descriptor = os.open(draft, flags, 0o666)
    os.close(descriptor)


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


@contextmanager
def new_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give drafts of several files of one folder; without an error all are put in place at the end.

    Every draft is on the disk before the files that are there are deleted, and these are gone
    before the first draft gets its name: a new file never lies beside an old one.
    """
    folder = paths[0].parent
    with ExitStack() as stack:
        drafts = [stack.enter_context(new_file(path, sync=False)) for path in paths]
        yield drafts
        for draft in drafts:
            _sync(draft)
        for path in paths:
            path.unlink(missing_ok=True)
        sync_folder(folder)
    sync_folder(folder)
