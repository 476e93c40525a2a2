"""Rows in another place than the one they were committed in are refused."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from latentood.errors import DamagedBlock, StoreError
from latentood.latents.facts import Origin
from latentood.store.cache import open_cache
from latentood.store.documents import group_document, write_document
from latentood.store.schema import ArraySpec, SplitSpec
from latentood.store.verify import verify
from latentood.store.writer import open_writer
from tests.store.example import HEAD, tree

LOGITS, FEATURES = ArraySpec("logits", (3,), "float32"), ArraySpec("features/a", (4,), "float32")
ADDED = (ArraySpec("features/b", (4,), "float32"), ArraySpec("features/c", (4,), "float32"))
ORIGIN = Origin(fingerprint={"seed": 0})


def spec(name, role, arrays=(LOGITS, FEATURES), **changes):
    data = {"target": "x", "fingerprint": name}
    return replace(SplitSpec(name, role, 8, 4, arrays, data), **changes)


def value(split, array, start):
    return np.float32(start + sum(f"{split.name}/{array.key}".encode()))


def fill(path, specs, origin=ORIGIN, head=HEAD):
    with open_writer(path, origin, head=head) as store:
        for one in specs:
            for writer in store.split(one):
                for block in writer.pending():
                    start, stop = writer.bounds(block)
                    rows = {
                        array.key: np.full((stop - start, *array.tail), value(one, array, start))
                        for array in writer.spec.arrays
                    }
                    writer.write(block, rows)
    return path


@pytest.fixture
def store(tmp_path):
    """Two splits with arrays of the same shapes, one of them with an array group that was added."""
    fill(tmp_path / "x.zarr", [spec("train", "fit"), spec("val", "val")])
    return fill(tmp_path / "x.zarr", [spec("train", "fit", (LOGITS, FEATURES, *ADDED))])


def read_all(store):
    cache = open_cache(store)
    for split in cache.splits:
        for key in ("logits", *(key for key in cache[split].keys() if key.startswith("features"))):  # noqa: SIM118
            cache[split][key]


def swap(store, *pairs):
    for pair in pairs:
        one, other = (store / "splits" / name for name in pair)
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)


def blocks_of(*arrays):
    return [(f"{array}/c.0.0", f"{array}/c.1.0") for array in arrays]


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(blocks_of("train/logits"), id="shards of an array"),
        pytest.param(
            blocks_of("train/logits", "train/features/a", "train/committed"), id="whole blocks"
        ),
        pytest.param(
            blocks_of("train/features/b", "train/features/c", "train/committed.1"),
            id="whole blocks of an added array group",
        ),
        pytest.param([("train/features/a", "train/features/b")], id="arrays of two array groups"),
        pytest.param(
            [(f"train/{name}", f"val/{name}") for name in ("logits", "features/a", "committed")],
            id="all arrays of two splits",
        ),
    ],
)
def test_what_was_moved_is_found_by_verify_and_by_a_read(store, pairs):
    read_all(store)
    swap(store, *pairs)
    assert {problem.what for problem in verify(store)} == {
        "its rows are not those that were committed in this place"
    }
    with pytest.raises(DamagedBlock, match="not those that were committed in this place"):
        read_all(store)


def test_a_split_of_another_name_or_run_is_found(store, tmp_path):
    """All documents and digests of the split are right, but for another place."""
    others = {
        "run": fill(tmp_path / "run", [spec("val", "val")], Origin(fingerprint={"seed": 1})),
        "head": fill(tmp_path / "head", [spec("val", "val")], head=(HEAD[0], HEAD[1] + 1)),
    }
    renamed = shutil.copytree(store / "splits/train", tmp_path / "renamed")
    about = spec("val", "val", (LOGITS, FEATURES, *(replace(one, group=1) for one in ADDED)))
    write_document(renamed, group_document(about.to_json()))
    for folder in (renamed, *(other / "splits/val" for other in others.values())):
        shutil.rmtree(store / "splits/val")
        shutil.copytree(folder, store / "splits/val")
        assert {problem.split for problem in verify(store)} == {"val"}
        with pytest.raises(DamagedBlock, match="split 'val', block 0"):
            read_all(store)


def test_other_data_under_the_same_name_are_found(store, tmp_path):
    """The blocks of a run over another data set do not fit under the name of the split."""
    data = {"target": "x", "fingerprint": "other"}
    other = fill(tmp_path / "other", [spec("val", "val", data=data)])
    for name in ("logits", "committed"):
        shutil.rmtree(store / "splits/val" / name)
        shutil.copytree(other / "splits/val" / name, store / "splits/val" / name)
    with pytest.raises(DamagedBlock, match="block 0: logits"):
        read_all(store)


def test_a_new_role_leaves_the_digests_right(store):
    fill(store, [spec("val", "id")])
    assert open_cache(store).splits["val"].role == "id"
    assert verify(store) == []
    read_all(store)


@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_blocks_read_piece_by_piece_are_checked_at_their_end(store, step):
    swap(store, *blocks_of("train/logits"))
    latents = open_cache(store)["train"]
    for start in range(0, 4 - step, step):
        latents.read("logits", start, start + step)
    last = range(0, 8, step)[(4 - 1) // step]
    with pytest.raises(DamagedBlock, match="split 'train', block 0: logits"):
        latents.read("logits", last, last + step)


def test_pieces_in_any_order_are_no_damage(store):
    latents = open_cache(store)["train"]
    for start, stop in ((2, 4), (0, 1), (1, 3), (0, 2), (2, 3), (5, 8), (3, 4), (0, 4), (1, 8)):
        rows = latents.read("logits", start, stop)
        expected = [value(spec("train", "fit"), LOGITS, row // 4 * 4) for row in range(start, stop)]
        assert rows[:, 0].tolist() == expected


# Overwriting


@pytest.mark.parametrize("array", ["logits", "head"])
def test_a_reader_is_not_told_of_damage_when_the_cache_is_overwritten(store, array):
    cache = open_cache(store)
    latents = cache["train"] if array == "logits" else None
    other = Origin(fingerprint={"seed": 1})
    with (
        open_writer(store, other, head=None, overwrite=True),
        pytest.raises(
            StoreError, match="was overwritten by another extraction while it was read"
        ) as caught,
    ):
        latents[array] if array == "logits" else cache.head
    assert not isinstance(caught.value, DamagedBlock)
    fill(store, [spec("train", "fit")], other, head=None)
    with pytest.raises(StoreError, match="was overwritten"):
        cache["train"]["features/b"]


@pytest.mark.parametrize("name", ["splits/train/plots/a.png", "splits/notes~partial", "head/x"])
def test_overwriting_deletes_nothing_that_is_not_ours(store, name):
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).write_text("precious")
    before = tree(store)
    with pytest.raises(StoreError, match=rf"{os.path.basename(name)}: --overwrite deletes only"):
        open_writer(store, ORIGIN, head=HEAD, overwrite=True)
    assert tree(store) == before


# Leftovers of a killed addition


def test_folders_that_no_killed_addition_leaves_are_kept(store):
    for name in (
        "plots/a.png",
        "features/mine/c/0/0",
        "features/z/c.0.0",
        "committed.9/c.0.0",
    ):
        (store / "splits/train" / name).parent.mkdir(parents=True)
        (store / "splits/train" / name).write_text("precious")
    (store / "splits/train/my-empty-folder").mkdir()
    (store / "splits/train/scores/left").mkdir(parents=True)
    (store / "splits/train/scores/left/zarr.json").write_text("{}")
    before = tree(store)
    fill(store, [spec("train", "fit", (LOGITS, FEATURES, *ADDED))])
    gone = before.keys() - tree(store).keys()
    assert gone == {f"splits/train/scores{tail}" for tail in ("", "/left", "/left/zarr.json")}
