"""The disk under a store: one writer, nothing unfinished, errors in one sentence."""

import errno
import os

import pytest

from latentood.errors import StoreError, StoreFull, StoreLocked
from latentood.store import disk


def test_sweeping_takes_what_is_unfinished_and_nothing_else(tmp_path):
    unfinished = (
        "splits/train~partial/logits/c.0.0", "splits/train~partial/c.1.7~partial",
        "splits/train/logits/c.3.0.123~partial", "splits/train/zarr.json.123~partial",
        "zarr.json.5~partial", "head~partial/weight/c.0.0", "splits~partial/train/zarr.json",
        "splits/train/logits/c.0~partial",
    )  # fmt: skip
    kept = (
        "notes~partial", "partial", "my-plots~partial/c.0", "splits/train/notes.md.12~partial",
        "splits/mine~partial/figure.png", "splits/train/logits/c.0.0",
    )  # fmt: skip
    for path in (*unfinished, *kept):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    disk.sweep(tmp_path)
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(files) == sorted(kept)
    assert not (tmp_path / "splits/train~partial").exists()


def test_sweeping_follows_no_link(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "c.0~partial").write_text("x")
    (tmp_path / "store" / "splits").mkdir(parents=True)
    for name in ("splits/x~partial", "head~partial", "zarr.json.1~partial"):
        (tmp_path / "store" / name).symlink_to(tmp_path / "outside")
    disk.sweep(tmp_path / "store")
    assert (tmp_path / "outside" / "c.0~partial").exists()


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
