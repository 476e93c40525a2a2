"""Adding arrays to a split: only they are written, and a kill leaves the old state or the new."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest

from latentood.errors import DamagedBlock, FingerprintMismatch, IncompleteSplit, StoreError
from latentood.store.cache import inspect, open_cache
from latentood.store.schema import ArraySpec, SplitSpec
from latentood.store.verify import discard, verify
from latentood.store.writer import open_writer
from tests.store.example import ARRAYS, FAR, HEAD, HEADER, TRAIN, block_of, tree, whole
from tests.store.faults import Died, Disk, attached, draft_of

FIRST = replace(TRAIN, rows=5, block_rows=3, arrays=(*ARRAYS[:3], ARRAYS[4]))
MORE = replace(FIRST, arrays=(*FIRST.arrays, ARRAYS[3], ARRAYS[5], ARRAYS[8]))
LITTLE = replace(FIRST, arrays=ARRAYS[:1])
LESS = replace(FIRST, arrays=(ARRAYS[0], ARRAYS[5]))
ADDED = ["features/layer1.0#2", "mc.logits", "scores/odin"]


def extract(path, *specs, blocks=None):
    """Write what is missing, or only so many blocks of it."""
    done = []
    with open_writer(path, HEADER, head=HEAD) as store:
        for writers in store.splits(specs).values():
            for writer in writers:
                for block in writer.pending()[:blocks]:
                    writer.write(block, block_of(writer.spec, block))
                    done.append((writer.spec.name, block, [a.key for a in writer.spec.arrays]))
    return done


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    path = tmp_path_factory.mktemp("caches") / "x.zarr"
    extract(path, FIRST)
    extract(path, MORE)
    return path


@pytest.fixture
def copy(grown, tmp_path):
    return shutil.copytree(grown, tmp_path / "x.zarr")


def test_added_arrays_are_the_only_ones_written(tmp_path):
    path = tmp_path / "x.zarr"
    extract(path, FIRST)
    before = tree(path)
    assert extract(path, MORE) == [("train", 0, ADDED), ("train", 1, ADDED)]
    after = tree(path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"splits/train/zarr.json"}
    latents = open_cache(path)["train"]
    for key in (*(array.key for array in FIRST.arrays if array.key != "ids"), *ADDED):
        assert latents[key].numpy().tobytes() == whole(MORE)[key].tobytes()
    assert verify(path) == []


def test_fewer_arrays_than_there_are_cost_nothing_and_delete_nothing(copy):
    before = tree(copy)
    assert extract(copy, FIRST) == []
    assert extract(copy, replace(MORE, arrays=(MORE.arrays[0], MORE.arrays[-1]))) == []
    assert tree(copy) == before


def test_an_added_split_leaves_the_others_as_they_are(copy):
    before = tree(copy)
    extract(copy, FAR, MORE)
    after = tree(copy)
    assert {name: after[name] for name in before} == before
    assert open_cache(copy).splits["textures"].complete


def test_groups_can_be_added_again_and_again(copy):
    last = replace(MORE, arrays=(*MORE.arrays, ARRAYS[6]))
    extract(copy, last)
    assert (copy / "splits/train/committed.2/c.1.0").is_file()
    assert "mc.features/layer1" in open_cache(copy)["train"]
    assert verify(copy) == []


def test_complete_arrays_stay_readable_while_others_are_being_added(tmp_path):
    path = tmp_path / "x.zarr"
    extract(path, FIRST)
    extract(path, MORE, blocks=1)
    cache = open_cache(path)
    assert set(cache["train"].keys()) == {"logits", "labels", "features/penultimate", "head"}
    assert cache.ids("train")[0] == "é/0.png"
    info = cache.splits["train"]
    assert (info.committed, info.complete) == ((0,), False)
    with pytest.raises(
        IncompleteSplit,
        match=r"'train' has 1 of 2 blocks of features/layer1.0#2, mc.logits, scores/odin; resume",
    ):
        cache.column("train", "odin")
    facts = {array["key"]: array for array in inspect(path)["splits"]["train"]["arrays"]}
    assert (facts["logits"]["committed"], facts["mc.logits"]["committed"]) == (2, 1)
    assert facts["mc.logits"]["raw"] == 3 * 2 * 3 * 4


def test_arrays_that_are_written_together_are_finished_together(tmp_path):
    path = tmp_path / "x.zarr"
    extract(path, FIRST)
    extract(path, MORE, blocks=1)
    before = tree(path)
    with pytest.raises(
        IncompleteSplit,
        match=r"has 1 of 2 blocks of .*, which are written together, but mc.logits, scores/odin are"
        r" not asked for; ask for it all",
    ):
        extract(path, replace(MORE, arrays=MORE.arrays[:-2]))
    assert tree(path) == before
    assert extract(path, FIRST) == [], "what is not asked for at all is left for later"
    assert extract(path, MORE) == [("train", 1, ADDED)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "max"}, 'the reduction of features/penultimate is "" there but "max" here'),
        ({"keep_bits": 7}, "keep_bits of features/penultimate is null there but 7 here"),
        ({"tail": (9,)}, r'array features/penultimate is \["float32",4\] there but \["float32",9'),
    ],
)
def test_an_array_made_otherwise_is_refused_by_its_name(copy, change, message):
    before = tree(copy)
    other = replace(FIRST, arrays=(*ARRAYS[:3], replace(ARRAYS[4], **change)))
    with pytest.raises(FingerprintMismatch, match=message):
        extract(copy, other)
    assert tree(copy) == before


def test_how_an_array_was_made_survives_and_its_codec_need_not_be_the_one_chosen_now(tmp_path):
    spec = ArraySpec("features/a", (3,), "float32", how="gram", keep_bits=7, codec="lz4")
    split = replace(FIRST, arrays=(spec,))
    extract(tmp_path / "x", split)
    assert open_cache(tmp_path / "x").splits["train"].arrays == (spec,)
    assert extract(tmp_path / "x", replace(split, arrays=(replace(spec, codec="zstd"),))) == []


@pytest.mark.parametrize("group", [-1, 2, "1"])
def test_groups_without_a_number_of_their_own_are_refused(group):
    stored = FIRST.to_json()
    stored["arrays"][0]["group"] = group
    with pytest.raises(ValueError, match="mend the metadata"):
        SplitSpec.from_json(stored)


# Damage


def test_damage_to_an_added_array_is_found_and_repaired_alone(copy):
    expected = tree(copy)
    for name in ("features/layer1.0#2/c.1.0", "committed.1/c.0.0"):
        file = copy / "splits/train" / name
        file.write_bytes(file.read_bytes()[:-1])
    problems = verify(copy)
    assert [(p.group, p.block, p.array) for p in problems] == [
        (1, 0, "committed.1"), (1, 1, "features/layer1.0#2"),
    ]  # fmt: skip
    discard(copy, problems)
    assert extract(copy, MORE) == [("train", 0, ADDED), ("train", 1, ADDED)]
    assert tree(copy) == expected


def test_swapped_shards_of_an_added_array_are_found(copy):
    logs = [copy / "splits/train" / f"committed.1/c.{block}.0" for block in (0, 1)]
    first, second = (log.read_bytes() for log in logs)
    logs[0].write_bytes(second)
    logs[1].write_bytes(first)
    problems = verify(copy)
    assert [(p.group, p.block, p.array) for p in problems] == [
        (1, block, key) for block in (0, 1) for key in ADDED
    ]
    discard(copy, problems)
    assert len(extract(copy, MORE)) == 2
    assert verify(copy) == []


def test_an_unreadable_log_of_an_added_group_is_an_error(copy):
    (copy / "splits/train/committed.1/c.0.0").unlink()
    with pytest.raises(DamagedBlock, match=r"block 0: committed\.1 is damaged: its entry"):
        open_cache(copy)["train"]


# A kill


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    path = tmp_path_factory.mktemp("dry") / "x.zarr"
    extract(path, LITTLE)
    with attached(Disk()) as disk:
        extract(path, LESS)
    return disk.log


def test_a_kill_at_any_operation_of_an_addition_leaves_the_old_state_or_the_new(
    operations, tmp_path
):
    extract(tmp_path / "first.zarr", LITTLE)
    extract(tmp_path / "grown.zarr", LITTLE)
    extract(tmp_path / "grown.zarr", LESS)
    old, expected = tree(tmp_path / "first.zarr"), tree(tmp_path / "grown.zarr")
    assert len(operations) > 40
    for k in range(len(operations)):
        path = shutil.copytree(tmp_path / "first.zarr", tmp_path / f"{k}.zarr")
        with attached(Disk(fail_at=k)), pytest.raises(Died):
            extract(path, LESS)
        np.testing.assert_array_equal(
            open_cache(path)["train"]["logits"].numpy(), whole(LITTLE)["logits"]
        )
        assert verify(path) == []
        if len(open_cache(path).splits["train"].arrays) == 1:
            swept = shutil.copytree(path, tmp_path / f"{k}-swept.zarr")
            with attached(Disk()):
                extract(swept, LITTLE)
            assert tree(swept) == old, f"leftovers of {operations[k]}"
        with attached(Disk()):
            extract(path, LESS)
        assert tree(path) == expected, operations[k]


def test_a_split_names_its_new_arrays_only_when_all_of_them_are_synced(operations):
    at = next(
        i
        for i, (kind, path) in enumerate(operations)
        if kind == "replace" and path.endswith("splits/train/zarr.json")
    )
    made = {path for kind, path in operations[:at] if kind == "mkdir" and "/train/" in path}
    synced = {path for kind, path in operations[:at] if kind == "fsync"}
    assert any(path.endswith("committed.1") for path in made)
    assert any(path.endswith("mc/logits") for path in made)
    assert made <= synced
    assert {path.rpartition("/")[0] for path in made} <= synced
    logged = {path for kind, path in operations[:at] if kind == "replace" and "/c." in path}
    assert {path.rpartition("/")[2] for path in logged} == {"c.0.0", "c.1.0"}
    assert {draft_of(path) for path in logged} <= synced


def test_a_full_disk_during_an_addition_keeps_the_old_arrays(tmp_path, operations):
    writes = [path for kind, path in operations if kind == "write"]
    for k in range(0, len(writes), 3):
        path = tmp_path / f"{k}.zarr"
        extract(path, LITTLE)
        with attached(Disk(k, errno.ENOSPC, ("write",))), pytest.raises(StoreError):
            extract(path, LESS)
        assert len(open_cache(path)["train"]) == 5
        assert verify(path) == []
