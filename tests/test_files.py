"""Files are there whole or not at all."""

import errno
import os

import pytest

from latentood import files
from tests.store.faults import Died, Disk, attached, draft_of


def content(folder):
    """Give the files of a folder: name → bytes."""
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


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
    assert content(tmp_path) == {"x": b"old"}


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, sync):
    file = tmp_path / "x"
    with attached(Disk()) as disk:
        files.write_file(file, b"new", sync=sync)
    draft = draft_of(file)
    expected = [("write", draft), ("fsync", draft), ("replace", str(file))]
    assert disk.log == ([*expected, ("fsync", str(tmp_path))] if sync else expected)


def test_a_kill_at_any_operation_leaves_the_old_file_or_the_new_one(tmp_path):
    names = []
    for k in range(4):
        folder = tmp_path / str(k)
        folder.mkdir()
        files.write_file(folder / "x", b"old")
        with attached(Disk(fail_at=k)), pytest.raises(Died):
            files.write_file(folder / "x", b"new")
        there = content(folder)
        names.append(there.pop("x"))
        assert all(f"{folder / name}" == draft_of(folder / "x") for name in there)
    assert names == [b"old", b"old", b"old", b"new"]


@pytest.mark.parametrize("k", range(3))
def test_an_error_at_any_operation_before_the_name_keeps_the_old_file_alone(tmp_path, k):
    files.write_file(tmp_path / "x", b"old")
    with attached(Disk(k, errno.EIO)), pytest.raises(OSError, match="Input/output error"):
        files.write_file(tmp_path / "x", b"new")
    assert content(tmp_path) == {"x": b"old"}


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_a_draft_that_is_given_up_is_deleted_whatever_the_reason(tmp_path, kind):
    files.write_file(tmp_path / "x", b"old")

    def give_up():
        with files.new_file(tmp_path / "x") as draft:
            draft.write_bytes(b"half")
            raise kind

    with pytest.raises(kind):
        give_up()
    assert content(tmp_path) == {"x": b"old"}


def test_a_draft_becomes_the_file_when_its_context_ends(tmp_path):
    with files.new_file(tmp_path / "x") as draft:
        draft.write_bytes(b"new")
        assert str(draft) == draft_of(tmp_path / "x")
        assert not (tmp_path / "x").exists()
    assert content(tmp_path) == {"x": b"new"}


def test_processes_that_write_the_same_file_have_drafts_of_their_own(tmp_path, monkeypatch):
    with files.new_file(tmp_path / "x") as ours:
        ours.write_bytes(b"ours")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with files.new_file(tmp_path / "x") as theirs:
            theirs.write_bytes(b"theirs")
        assert content(tmp_path) == {"x": b"theirs", ours.name: b"ours"}
    assert content(tmp_path) == {"x": b"ours"}


def test_a_folder_appears_only_when_it_is_full(tmp_path):
    with files.new_folder(tmp_path / "new") as draft:
        (draft / "x").write_text("x")
        assert not (tmp_path / "new").exists()
    assert [entry.name for entry in tmp_path.rglob("*")] == ["new", "x"]


def test_a_folder_is_synced_with_all_in_it_before_it_gets_its_name(tmp_path):
    with attached(Disk()) as disk, files.new_folder(tmp_path / "new") as draft:
        (draft / "inner").mkdir()
    assert draft == tmp_path / "new~partial"
    assert disk.log == [
        ("mkdir", str(draft)),
        ("mkdir", str(draft / "inner")),
        ("fsync", str(draft)),
        ("fsync", str(draft / "inner")),
        ("rename", str(tmp_path / "new")),
        ("fsync", str(tmp_path)),
    ]


@pytest.mark.parametrize("way", [files.remove, files.throw_away])
def test_a_link_is_deleted_but_what_it_points_to_stays(tmp_path, way):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (tmp_path / "store").mkdir()
    link = tmp_path / "store" / "x~partial"
    link.symlink_to(tmp_path / "outside")
    way(link)
    assert not link.is_symlink()
    assert (tmp_path / "outside" / "precious").exists()


def test_a_folder_is_thrown_away_under_another_name(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "x").write_text("x")
    with attached(Disk()) as disk:
        files.throw_away(tmp_path / "old")
    at = disk.log.index(("rename", str(tmp_path / "old~partial")))
    assert disk.log[at + 1] == ("fsync", str(tmp_path))
    assert {kind for kind, _ in disk.log[at + 2 :]} == {"unlink", "rmdir"}
    assert list(tmp_path.iterdir()) == []
    files.throw_away(tmp_path / "old")  # nothing is there


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 2**20, "5.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**41, "2.0 TiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_bytes_are_written_with_the_unit_that_keeps_them_short(count, text):
    assert files.human_bytes(count) == text


@pytest.mark.parametrize("k", range(20))
def test_files_of_one_set_are_never_beside_those_of_another_after_a_kill(tmp_path, k):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        files.write_file(path, b"old")
    with attached(Disk(fail_at=k)) as disk:
        try:
            with files.new_files(paths) as drafts:
                for draft in drafts:
                    draft.write_bytes(b"new")
        except Died:
            assert disk.dead
    there = {name: data for name, data in content(tmp_path).items() if name in "abc"}
    assert len(set(there.values())) <= 1
    removed = {("unlink", str(path)) for path in paths}
    if not removed & set(disk.log[: k if disk.dead else None]):
        assert there == dict.fromkeys("abc", b"old")
    if not disk.dead:
        assert there == dict.fromkeys("abc", b"new")
        assert disk.log[-1] == ("fsync", str(tmp_path))


def test_a_set_that_is_given_up_keeps_the_old_files_alone(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        files.write_file(path, b"old")

    def give_up():
        with files.new_files(paths) as drafts:
            drafts[0].write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up()
    assert content(tmp_path) == dict.fromkeys("abc", b"old")
