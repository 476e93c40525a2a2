"""A disk that fails at the k-th operation, and a machine that dies there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from latentood import files

OPERATIONS = ("mkdir", "fsync", "replace", "rename", "unlink", "rmdir")


class Died(BaseException):
    """The process was killed; nothing it does after that reaches the disk."""


class Disk:
    """Counts what is done to the disk, and fails at one of them.

    Args:
        fail_at: Number of the operation to fail at, from 0; never if None.
        code: The error it fails with once; if None the process dies there.
        only: Kinds of operations that are counted.
    """

    def __init__(
        self, fail_at: int | None = None, code: int | None = None, only: tuple[str, ...] = ()
    ) -> None:
        self.fail_at = fail_at
        self.code = code
        self.only = only
        self.log: list[tuple[str, str]] = []
        self.dead = False

    def touch(self, kind: str, path: object) -> None:
        """Take note of an operation, or fail before it is done."""
        if self.dead:
            raise Died
        if self.only and kind not in self.only:
            return
        self.log.append((kind, os.fspath(path) if isinstance(path, str | os.PathLike) else ""))
        if len(self.log) - 1 == self.fail_at:
            if self.code is None:
                self.dead = True
                raise Died
            raise OSError(self.code, os.strerror(self.code))


class _TornFile:
    """A file of which only half reaches the disk when the write fails."""

    def __init__(self, args, disk: Disk) -> None:
        self._file = open(*args)  # noqa: SIM115
        self._disk = disk

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data) -> None:
        try:
            self._disk.touch("write", self._file.name)
        except BaseException:
            self._file.write(bytes(data)[: len(bytes(data)) // 2])
            raise
        self._file.write(data)


@contextmanager
def attached(disk: Disk) -> Iterator[Disk]:
    """Send every file operation through the disk; nothing is really synced, which is fast."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in OPERATIONS:
            patch.setattr(os, kind, _through(disk, kind, getattr(os, kind)))
        patch.setattr(files, "open", lambda *args: _TornFile(args, disk), raising=False)
        yield disk


def draft_of(path: object) -> str:
    """Name the file that this process writes before it becomes ``path``."""
    return f"{path}.{os.getpid()}~partial"


def _through(disk: Disk, kind: str, real):
    def operation(path, *args, **options):
        target = os.readlink(f"/proc/self/fd/{path}") if kind == "fsync" else path
        disk.touch(kind, args[0] if kind in ("replace", "rename") else target)
        return None if kind == "fsync" else real(path, *args, **options)

    return operation


DISK_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
