"""A store from elsewhere: nothing outside it is read or written, and nothing exhausts a reader."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from latentood.errors import ConfigError, StoreError
from latentood.store.cache import inspect, open_cache
from latentood.store.documents import group_document, write_document
from latentood.store.schema import SplitSpec
from latentood.store.verify import discard, verify
from latentood.store.writer import open_writer
from tests.store import example
from tests.store.example import ARRAYS, HEAD, HEADER, tree

TRAIN = replace(example.TRAIN, arrays=ARRAYS[:2] + ARRAYS[4:6])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return example.fill(tmp_path_factory.mktemp("caches") / "x.zarr", (TRAIN,))


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "x.zarr")


def read(store):
    cache = open_cache(store)
    assert cache.head is not None
    for key in ("logits", "labels", "features/penultimate", "mc.logits"):
        cache["train"][key]


def extract(store):
    more = replace(TRAIN, arrays=(*TRAIN.arrays, ARRAYS[3]))
    with open_writer(store, HEADER, head=HEAD) as writer:
        for group in writer.split(more):
            for block in group.pending():
                group.write(block, example.block_of(group.spec, block))


def overwrite(store):
    return example.fill(store, (TRAIN,), overwrite=True)


FOLDERS = [
    "splits", "splits/train", "splits/train/features", "splits/train/mc", "splits/train/logits",
    "splits/train/features/penultimate", "splits/train/committed", "head", "head/weight",
]  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("use", [read, verify, inspect, extract, overwrite])
def test_no_folder_behind_a_link_is_read_or_written(copy, tmp_path, name, use):
    outside = tmp_path / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    (outside / "a folder of the user").mkdir()
    before = tree(outside)
    with pytest.raises(StoreError, match=r"(is a link|something else)"):
        use(copy)
    assert tree(outside) == before


FILES = [
    "zarr.json", "splits/zarr.json", "splits/train/zarr.json", "splits/train/features/zarr.json",
    "splits/train/logits/zarr.json", "splits/train/logits/c.0.0", "splits/train/committed/c.1.0",
    "head/zarr.json", "head/weight/c.0.0",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["link", "fifo", "device"])
def test_no_file_behind_a_link_is_read_and_no_pipe_is_waited_for(copy, tmp_path, name, what):
    file, outside = copy / name, tmp_path / "outside"
    file.rename(outside)
    if what == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to(outside if what == "link" else "/dev/zero")
    before = outside.read_bytes()
    with pytest.raises(StoreError):
        read(copy)
    try:
        problems = verify(copy)
    except StoreError:
        return  # metadata, without which nothing is known
    assert problems
    discard(copy, problems)
    example.fill(copy, (TRAIN,))
    assert verify(copy) == []
    assert outside.read_bytes() == before


@pytest.mark.parametrize("name", ["c.0.0", "zarr.json"])
def test_nothing_is_written_through_a_planted_draft(copy, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("x")
    for pid in (f".{os.getpid()}", ""):
        (copy / f"splits/train/logits/{name}{pid}~partial").symlink_to(precious)
        (copy / f"splits/train/committed/{name}{pid}~partial").symlink_to(precious)
    (copy / f"splits/train/logits/{name}").write_bytes(b"damage")
    discard(copy, verify(copy))
    example.fill(copy, (TRAIN,))
    assert verify(copy) == []
    assert precious.read_text() == "x"


def test_the_lock_is_no_link(copy, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("x")
    (copy / ".lock").unlink()
    (copy / ".lock").symlink_to(precious)
    with pytest.raises(StoreError, match=r"\.lock: must be a file of its own"):
        overwrite(copy)
    assert precious.read_text() == "x"


def test_the_root_itself_may_be_a_link(copy, tmp_path):
    (tmp_path / "link.zarr").symlink_to(copy)
    read(tmp_path / "link.zarr")
    extract(tmp_path / "link.zarr")
    assert verify(copy) == []


# Metadata that ask for more than there is


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"block_rows": 10**18, "rows": 10**18}, "rows ≤ 1099511627776"),
        ({"block_rows": 10**18}, "block_rows ≤ 16777216"),
        ({"rows": 2**39, "block_rows": 1}, "blocks ≤ 1048576"),
        ({"tail": [2**40]}, "bytes of a row ≤ 2147483648"),
        ({"tail": [2**20] * 20}, "bytes of a row ≤ 2147483648"),
        ({"tail": [2**28], "rows": 10**4}, "bytes of a block ≤ 34359738368"),
        ({"rows": 10**400}, "rows ≤ 1099511627776"),
        ({"rows": 1e3}, "rows must be a whole number"),
        ({"rows": True}, "rows must be a whole number"),
    ],
)
def test_sizes_are_limited_before_anything_is_allocated(copy, changes, what):
    changes = {"block_rows": 10**4} | changes if "tail" in changes else changes
    about = TRAIN.to_json() | {name: size for name, size in changes.items() if name != "tail"}
    if "tail" in changes:
        about["arrays"][0]["tail"] = changes["tail"]
    write_document(copy / "splits/train", group_document(about))
    for use in (read, verify, inspect, extract):
        with pytest.raises(StoreError, match=what):
            use(copy)


@pytest.mark.parametrize("shape", [[2**30, 2**10], [3, 2**40], [2**60], [0, 4], [3, True], "34"])
def test_a_head_of_impossible_shape_is_refused(copy, shape):
    stored = json.loads((copy / "zarr.json").read_text())["attributes"]["latentood"]
    stored["head"]["weight"]["shape"] = shape
    del stored["digest"]
    write_document(copy, group_document(stored))
    with pytest.raises(StoreError, match="the metadata must be as latentood wrote them"):
        read(copy)


def test_a_writer_keeps_to_the_limits_of_a_reader():
    with pytest.raises(ConfigError, match=r"logits: must have blocks ≤ 1048576, got 2097152"):
        SplitSpec("train", "fit", 2**21, 1, ARRAYS[:1], {})


def test_rows_that_no_memory_holds_are_refused_before_they_are_allocated(copy, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"total": 100})())
    latents = open_cache(copy)["train"]
    assert latents.read("logits", 0, 8).shape == (8, 3)
    with pytest.raises(StoreError, match=r"9 rows of logits .* the machine's 100 B, got 108 B"):
        latents.read("logits", 0, 9)


def test_an_allocation_that_fails_in_zarr_is_not_damage(copy, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(np, "asarray", fail)
    with pytest.raises(MemoryError):
        open_cache(copy)["train"]["logits"]


def test_a_link_to_head_is_not_deleted_through(copy, tmp_path):
    outside = tmp_path / "outside"
    (copy / "head").rename(outside)
    (copy / "head").symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        open_writer(copy, HEADER, head=HEAD)
    assert (outside / "weight/c.0.0").exists()
