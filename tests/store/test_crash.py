"""A kill, a full disk or an error at any point: the old state or the new one, nothing else."""

import errno
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from subprocess import DEVNULL, PIPE

import pytest

from latentood.errors import StoreError, StoreFull
from latentood.store.cache import open_cache
from latentood.store.root import read_root
from latentood.store.splits import load_split
from latentood.store.verify import verify
from tests.store import slow_writer
from tests.store.example import ARRAYS, FAR, TRAIN, block_of, fill, tree
from tests.store.faults import Died, Disk, attached, draft_of

KILLS = 21
SMALL = (replace(TRAIN, rows=5, block_rows=3, arrays=(ARRAYS[0], ARRAYS[5])),)


def test_a_cache_killed_twenty_times_is_bit_identical(tmp_path, repository):
    expected = tree(fill(tmp_path / "whole.zarr", slow_writer.SPLITS))
    chance = random.Random(0)
    command = [sys.executable, "-m", "tests.store.slow_writer", str(tmp_path / "killed.zarr")]
    states = []
    for life in range(KILLS):
        with subprocess.Popen(command, cwd=repository, stdin=PIPE, stdout=PIPE) as child:
            # Creating the second split takes more than 120 operations: life 12 gets through.
            operations = chance.randint(1, 120) + 260 * (life == 12)
            child.stdin.write(b"." * (operations + 40))
            child.stdin.flush()
            child.stdout.read(operations)  # it is now up to 40 operations ahead
            time.sleep(chance.uniform(0, 0.002))
            child.kill()
        assert child.returncode == -signal.SIGKILL, "it must be killed at work, not be done"
        states.append(tree(tmp_path / "killed.zarr"))
    for split in ("textures", "train"):
        place = f"splits/{split}/logits/c."
        steps = {sum(name.startswith(place) for name in state) for state in states}
        assert len(steps) >= 5, f"the kills must meet every split in different blocks, got {steps}"
    subprocess.run(command, cwd=repository, check=True, stdin=DEVNULL, capture_output=True)
    assert tree(tmp_path / "killed.zarr") == expected
    assert verify(tmp_path / "killed.zarr") == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted cache, and what is done to the disk to make it."""
    path = tmp_path_factory.mktemp("whole") / "x.zarr"
    with attached(Disk()) as disk:
        fill(path, SMALL)
    return tree(path), disk.log


def check_state(path, problems_allowed=()):
    """Whatever is there must be readable as the truth, or as an error, or not at all."""
    if not (path / "zarr.json").exists():
        with pytest.raises(StoreError):
            open_cache(path)
        return
    cache = open_cache(path)
    problems = verify(path)
    if cache.splits:
        assert problems == []
    else:  # the head is written first, then the splits
        assert {problem.array for problem in problems} <= {"head"}
    for name in cache.splits:
        (group,) = load_split(path, read_root(path), name).groups
        (spec,) = [spec for spec in SMALL if spec.name == name]
        for block, entry in enumerate(group.entries()):
            truth = block_of(spec, block)
            digests = tuple(array.digest(block, truth[key]) for key, array in group.arrays.items())
            assert entry in ((), digests)


def test_a_kill_at_any_operation_leaves_the_old_state_or_the_new_one(tmp_path, whole):
    expected, operations = whole
    assert len(operations) >= 113
    for k in range(len(operations)):
        path = tmp_path / f"{k}.zarr"
        with attached(Disk(fail_at=k)), pytest.raises(Died):
            fill(path, SMALL)
        check_state(path)
        with attached(Disk()):
            fill(path, SMALL)
        assert tree(path) == expected, operations[k]


def test_a_kill_at_any_operation_of_a_resume_is_no_worse(tmp_path, whole):
    expected, operations = whole
    middle = len(operations) - 12  # in the second block
    for k in range(200):
        path = tmp_path / f"{k}.zarr"
        with attached(Disk(fail_at=middle)), pytest.raises(Died):
            fill(path, SMALL)
        try:
            with attached(Disk(fail_at=k)):
                fill(path, SMALL)
            break
        except Died:
            check_state(path)
        with attached(Disk()):
            fill(path, SMALL)
        assert tree(path) == expected
    assert k > 10


def test_a_kill_at_any_operation_of_an_overwrite_can_be_overwritten(tmp_path, whole):
    expected, _ = whole
    old = (replace(FAR, rows=2, block_rows=2),)
    fill(tmp_path / "old.zarr", old)
    for k in range(0, 300, 5):
        path = shutil.copytree(tmp_path / "old.zarr", tmp_path / f"{k}.zarr")
        try:
            with attached(Disk(fail_at=k)):
                fill(path, SMALL, overwrite=True)
            break
        except Died:
            open_cache(path)  # never a ruin
        with attached(Disk()):
            fill(path, SMALL, overwrite=True)
        assert tree(path) == expected
    assert k > 50


@pytest.mark.parametrize(
    ("code", "kind", "only"),
    [
        (errno.ENOSPC, StoreFull, ("write",)),
        (errno.ENOSPC, StoreFull, ("mkdir",)),
        (errno.EIO, StoreError, ("fsync",)),
        (errno.EROFS, StoreError, ("replace", "rename")),
    ],
)
def test_a_disk_error_at_any_operation_is_named_and_can_be_resumed(
    tmp_path, whole, code, kind, only
):
    expected, operations = whole
    count = sum(operation in only for operation, _ in operations)
    for k in range(count):
        path = tmp_path / f"{k}.zarr"
        said = None
        try:
            with attached(Disk(k, code, only)):
                fill(path, SMALL)
        except kind as error:
            said = str(error)
        if said is None:
            assert tree(path) == expected, "a failure that is not reported must not matter"
            continue
        assert re.search(r"committed so far are kept, so .*run the same command", said)
        check_state(path)
        with attached(Disk()):
            fill(path, SMALL)
        assert tree(path) == expected


def test_a_full_disk_costs_the_block_at_work_and_no_other(tmp_path):
    with attached(Disk()) as disk:
        fill(tmp_path / "dry.zarr", SMALL)
    writes = [path for kind, path in disk.log if kind == "write"]
    last = len(writes) - 2  # a shard of the second of two blocks
    with attached(Disk(last, errno.ENOSPC, ("write",))), pytest.raises(StoreFull):
        fill(tmp_path / "x.zarr", SMALL)
    assert open_cache(tmp_path / "x.zarr").splits["train"].committed == (0,)


def test_a_digest_is_written_only_after_its_shards_are_synced(whole):
    _, operations = whole
    in_place, synced, commits = set(), set(), 0
    for kind, path in operations:
        if kind == "replace":
            in_place.add(path)
            if "/committed/c." in path and "~partial/" not in path:
                block = path.rpartition(".")[2]
                shards = {p for p in in_place if re.search(rf"/(logits|mc/logits)/c\.{block}\.", p)}
                assert len(shards) == 2
                assert {draft_of(p) for p in shards} <= synced
                assert all(p.rpartition("/")[0] in synced for p in shards)
                commits += 1
        elif kind == "fsync":
            synced.add(path)
    assert commits == 2


def test_every_file_is_synced_before_it_gets_its_name_and_its_folder_after(whole):
    _, operations = whole
    placed = [at for at, (kind, _) in enumerate(operations) if kind == "replace"]
    assert len(placed) == 20
    for at in placed:
        path = operations[at][1]
        assert operations[at - 2 : at] == [("write", draft_of(path)), ("fsync", draft_of(path))]
        new_log = "~partial/committed/c." in path  # its folder is synced once for all its files
        folder = ("fsync", path.rpartition("/")[0])
        assert folder in operations[at + 1 :] if new_log else folder == operations[at + 1], path


def test_the_folder_of_the_log_is_synced_after_every_commit(whole):
    _, operations = whole
    for at, (kind, path) in enumerate(operations):
        if kind == "replace" and "/committed/c." in path and "~partial/" not in path:
            assert operations[at + 1] == ("fsync", path.rpartition("/")[0])


def test_a_split_is_renamed_into_place_only_after_all_of_it_is_synced(whole):
    _, operations = whole
    at = next(i for i, (kind, path) in enumerate(operations)
              if kind == "rename" and path.endswith("splits/train"))  # fmt: skip
    made = {path for kind, path in operations[:at] if kind == "mkdir" and "train~partial" in path}
    synced = [path for kind, path in operations[:at] if kind == "fsync"]
    assert made
    assert made <= set(synced)


def test_unfinished_files_of_a_killed_writer_are_gone_after_a_resume(tmp_path):
    path = fill(tmp_path / "x.zarr", SMALL)
    expected = tree(path)
    for name in ("zarr.json.123~partial", "zarr.json~partial", "splits/val~partial/zarr.json",
                 "splits/train/logits/c.0.0.123~partial"):  # fmt: skip
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("half")
    assert list(open_cache(path).splits) == ["train"]
    fill(path, SMALL)
    assert tree(path) == expected
