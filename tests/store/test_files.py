"""Files are there whole or not at all."""

import errno
import os

import pytest

from latentood.errors import StoreError, StoreFull, StoreLocked
from tests.report.conftest import files


def test_a_file_replaces_the_old_one_whole(tmp_path):
    for data in (b"one", b"two"):
        files.write_file(tmp_path / "x", data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"two"


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    files.write_file(tmp_path / "x", b"old")

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        files.write_file(tmp_path / "x", b"new")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"x": b"old"}


def test_a_folder_appears_only_when_it_is_full(tmp_path):
    with files.new_folder(tmp_path / "new") as draft:
        (draft / "x").write_text("x")
        assert not (tmp_path / "new").exists()
    assert [entry.name for entry in tmp_path.rglob("*")] == ["new", "x"]


def test_sweeping_takes_what_is_unfinished_and_nothing_else(tmp_path):
    for path in ("a/b~partial/c", "a/kept", "d~partial", "partial"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    files.sweep(tmp_path)
    kept = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert kept == ["a", "a/kept", "partial"]


@pytest.mark.parametrize("way", [files.remove, files.throw_away, files.sweep])
def test_a_link_is_deleted_but_what_it_points_to_stays(tmp_path, way):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (tmp_path / "store").mkdir()
    link = tmp_path / "store" / "x~partial"
    link.symlink_to(tmp_path / "outside")
    way(tmp_path / "store" if way is files.sweep else link)
    assert not link.is_symlink()
    assert (tmp_path / "outside" / "precious").exists()


def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path):
    lock = files.take_lock(tmp_path)
    with pytest.raises(StoreLocked, match=r"another is writing now; wait for it to end or choose"):
        files.take_lock(tmp_path)
    lock.release()
    files.take_lock(tmp_path).release()


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
    with pytest.raises(kind, match=message), files.disk_errors(tmp_path):
        raise OSError(code, os.strerror(code), "file")


def test_an_error_of_ours_is_not_reworded(tmp_path):
    with pytest.raises(StoreLocked, match=r"^as it was$"), files.disk_errors(tmp_path):
        raise StoreLocked("as it was")


def test_too_little_space_is_said_before_the_work_begins(tmp_path):
    files.require_free(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(
        StoreFull, match=r"x.zarr: needs 909.5 TiB, but only [\d.]+ \wiB are free; fr"
    ):
        files.require_free(tmp_path / "x.zarr", 10**15)
