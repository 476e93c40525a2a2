"""The disk under a store: one writer, nothing unfinished, errors in one sentence."""

import errno
import os

import pytest

from latentood.errors import StoreError, StoreFull, StoreLocked
from latentood.store import disk


def test_sweeping_takes_what_is_unfinished_and_nothing_else(tmp_path):
    for path in ("a/b~partial/c", "a/kept", "a/x.123~partial", "d~partial", "partial"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    disk.sweep(tmp_path)
    kept = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert kept == ["a", "a/kept", "partial"]


def test_sweeping_deletes_a_link_but_not_what_it_points_to(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (tmp_path / "store").mkdir()
    link = tmp_path / "store" / "x~partial"
    link.symlink_to(tmp_path / "outside")
    disk.sweep(tmp_path / "store")
    assert not link.is_symlink()
    assert (tmp_path / "outside" / "precious").exists()


def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path):
    lock = disk.take_lock(tmp_path)
    with pytest.raises(StoreLocked, match=r"another is writing now; wait for it to end or choose"):
        disk.take_lock(tmp_path)
    lock.release()
    disk.take_lock(tmp_path).release()


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            errno.ENOSPC,
            StoreFull,
            "the disk is full; the blocks committed so far are kept, so free",
        ),
        (errno.EDQUOT, StoreFull, "the disk is full"),
        (
            errno.EROFS,
            StoreError,
            r"the system refused with Read-only file system \(file\); the bl",
        ),
        (errno.EIO, StoreError, "Input/output error"),
    ],
)
def test_what_the_disk_refuses_is_said_in_one_sentence(tmp_path, code, kind, message):
    with pytest.raises(kind, match=message), disk.disk_errors(tmp_path):
        raise OSError(code, os.strerror(code), "file")


def test_an_error_of_ours_is_not_reworded(tmp_path):
    with pytest.raises(StoreLocked, match=r"^as it was$"), disk.disk_errors(tmp_path):
        raise StoreLocked("as it was")


def test_too_little_space_is_said_before_the_work_begins(tmp_path):
    disk.require_free(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(
        StoreFull, match=r"x.zarr: needs 909.5 TiB, but only [\d.]+ \wiB are free; fr"
    ):
        disk.require_free(tmp_path / "x.zarr", 10**15)
