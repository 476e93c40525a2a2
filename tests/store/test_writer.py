"""Writing a cache: create, resume, refuse."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from latentood.errors import (
    ConfigError,
    DataError,
    FingerprintMismatch,
    StoreError,
    StoreFull,
    StoreLocked,
)
from latentood.latents.facts import Origin
from latentood.store.cache import open_cache
from latentood.store.disk import require_free
from latentood.store.schema import ArraySpec
from latentood.store.writer import open_writer
from tests.store.example import FAR, HEAD, HEADER, SPLITS, TRAIN, block_of, fill, tree


@pytest.fixture
def store(tmp_path):
    return tmp_path / "caches" / "x.zarr"


def test_filling_a_full_cache_again_changes_nothing(store):
    before = tree(fill(store))
    assert tree(fill(store)) == before


def test_two_runs_give_the_same_bits(store, tmp_path):
    assert tree(fill(store)) == tree(fill(tmp_path / "other"))


def test_the_order_in_which_blocks_are_written_does_not_matter(store, tmp_path):
    with open_writer(store, HEADER, head=HEAD) as writer:
        splits = [writer.split(spec)[0] for spec in reversed(SPLITS)]
        for split in splits:
            for block in reversed(split.pending()):
                split.write(block, block_of(split.spec, block))
    assert tree(store) == tree(fill(tmp_path / "other"))


def test_a_resume_does_only_what_is_missing(store):
    with open_writer(store, HEADER, head=HEAD) as writer:
        (split,) = writer.split(TRAIN)
        assert split.pending() == [0, 1, 2]
        assert split.bounds(2) == (16, 20)
        split.write(1, block_of(TRAIN, 1))
        assert split.pending() == [0, 2]
    with open_writer(store, HEADER, head=HEAD) as writer:
        assert writer.split(TRAIN)[0].pending() == [0, 2]


def test_shards_of_a_block_that_was_never_committed_are_deleted_on_resume(store):
    with open_writer(store, HEADER, head=HEAD) as writer:
        writer.split(TRAIN)[0].write(0, block_of(TRAIN, 0))
    stray = store / "splits/train/features/penultimate/c.1.0"
    stray.write_bytes(b"half a shard")
    with open_writer(store, HEADER, head=HEAD) as writer:
        writer.split(TRAIN)
    assert not stray.exists()


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_a_block_whose_log_entry_is_damaged_is_done_again(store, how):
    before = tree(fill(store))
    entry = store / "splits/train/committed/c.1.0"
    if how == "flip":
        entry.write_bytes(bytes([entry.read_bytes()[0] ^ 1]) + entry.read_bytes()[1:])
    else:
        entry.unlink()
    with open_writer(store, HEADER, head=HEAD) as writer:
        assert writer.split(TRAIN)[0].pending() == [1]
    assert tree(fill(store)) == before


def test_a_background_thread_can_write(store, tmp_path):
    with open_writer(store, HEADER, head=HEAD) as writer:
        splits = [writer.split(spec)[0] for spec in SPLITS]

        def work():
            for split in splits:
                for block in split.pending():
                    split.write(block, block_of(split.spec, block))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert tree(store) == tree(fill(tmp_path / "other"))


def test_the_writer_does_not_need_torch(repository):
    code = (
        "import sys; import latentood.store.writer, latentood.store.verify; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0


# Who may write


def test_a_second_writer_is_refused_by_name(store):
    with (
        open_writer(store, HEADER, head=HEAD),
        pytest.raises(StoreLocked, match=r"caches/x\.zarr: only one process may write to a cache"),
    ):
        open_writer(store, HEADER, head=HEAD)
    open_writer(store, HEADER, head=HEAD).close()


def test_a_second_process_is_refused_and_a_killed_one_holds_nothing(store, repository):
    code = (
        "import sys; from tests.store.example import *; "
        f"writer = open_writer({str(store)!r}, HEADER, head=HEAD); print('in', flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=repository, **pipes) as child:
        assert child.stdout.readline() == b"in\n"
        with pytest.raises(StoreLocked):
            open_writer(store, HEADER, head=HEAD)
        child.kill()
        child.wait()
    open_writer(store, HEADER, head=HEAD).close()


def test_a_writer_that_is_refused_gives_the_lock_back(store):
    fill(store)
    for _ in range(2):
        with pytest.raises(FingerprintMismatch):
            open_writer(store, Origin({}, {}, {}), head=HEAD)
    fill(store)


# What may be written where


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"holds the results of another run: seed is 0 there but 1 here; choose "),
        ({"dtype": "float16"}, 'dtype is "float32" there but "float16" here'),
        ({"layers": ["a", "b"]}, r'layers is \["layer1"\] there but \["a","b"\] here'),
        ({"passes": 16}, "passes is absent there but 16 here"),
        ({"passes": None}, "passes is absent there but null here"),
    ],
)
def test_another_fingerprint_is_refused_by_field_and_both_values(store, change, message):
    fill(store)
    before = tree(store)
    other = Origin({}, HEADER.fingerprint | change, {})
    with pytest.raises(FingerprintMismatch, match=message) as caught:
        open_writer(store, other, head=HEAD)
    assert "choose another --store, or --overwrite to throw the old results" in str(caught.value)
    assert tree(store) == before


def test_every_field_that_differs_is_named_and_long_values_are_cut(store):
    fill(store)
    other = Origin({}, {**HEADER.fingerprint, "seed": 9, "weights": "f" * 500}, {})
    with pytest.raises(FingerprintMismatch) as caught:
        open_writer(store, other, head=HEAD)
    assert "seed is 0 there" in str(caught.value)
    assert "weights is" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("head", [None, (HEAD[0] + 1, HEAD[1]), (HEAD[0], HEAD[1].astype("f8"))])
def test_another_head_is_refused(store, head):
    fill(store)
    with pytest.raises(FingerprintMismatch, match=r"head weights is .* there but .* here"):
        open_writer(store, HEADER, head=head)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            (HEAD[0], HEAD[1][:2]),
            r"weight must be \(C, D\) and bias \(C,\), got \(3, 4\) and \(2,\)",
        ),
        ((HEAD[0][0], HEAD[1]), r"weight must be \(C, D\)"),
        ((HEAD[0].astype(object), HEAD[1]), "head: dtype must be one of .* got object and float32"),
    ],
)
def test_a_head_that_is_none_is_refused(store, head, message):
    with pytest.raises(ConfigError, match=message):
        open_writer(store, HEADER, head=head)
    assert not store.exists()


def test_versions_are_not_compared_and_those_of_the_first_blocks_stay(store):
    fill(store)
    open_writer(store, replace(HEADER, versions={"torch": "9"}), head=HEAD).close()
    assert open_cache(store).header.versions == HEADER.versions


def test_a_pipeline_that_grew_replaces_the_old_one_once_its_splits_fit(store):
    fill(store)
    grown = replace(HEADER, pipeline={"name": "example", "splits": ["svhn"]})
    svhn = replace(FAR, name="svhn")
    with open_writer(store, grown, head=HEAD) as writer:
        assert list(writer.splits([TRAIN, svhn])) == ["train", "svhn"]
    assert open_cache(store).header == grown
    assert list(open_cache(store).splits) == ["svhn", "textures", "train"]


def test_splits_of_which_one_does_not_fit_change_nothing(store):
    before = tree(fill(store))
    grown = replace(HEADER, pipeline={"name": "example", "splits": ["svhn"]})
    wanted = [replace(FAR, name="svhn"), replace(FAR, role="near"), replace(TRAIN, rows=19)]
    with (
        open_writer(store, grown, head=HEAD) as writer,
        pytest.raises(FingerprintMismatch, match="rows is 20 there but 19 here"),
    ):
        writer.splits(wanted)
    assert tree(store) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 19}, "holds another split 'train': rows is 20 there but 19 here; choose"),
        (
            {"rows": 4, "block_rows": 4, "data": {**TRAIN.data, "limit": 4}},
            "holds another split 'train': rows is 20 there but 4 here; choose",
        ),
        ({"block_rows": 4}, "block_rows is 8 there but 4 here"),
        ({"data": {"target": "example", "fingerprint": "x"}}, 'data.fingerprint is "cd34" there'),
        ({"data": {**TRAIN.data, "limit": 5}}, "data.limit is absent there but 5 here"),
        (
            {"arrays": (ArraySpec("logits", (4,), "float32"), *TRAIN.arrays[1:])},
            r'array logits is \["float32",3\] there but \["float32",4\] here',
        ),
    ],
)
def test_another_split_under_the_same_name_is_refused_by_field(store, change, message):
    fill(store)
    with (
        open_writer(store, HEADER, head=HEAD) as writer,
        pytest.raises(FingerprintMismatch, match=message),
    ):
        writer.split(replace(TRAIN, **change))


def test_the_order_of_arrays_does_not_make_another_split(store):
    fill(store)
    with open_writer(store, HEADER, head=HEAD) as writer:
        assert writer.split(replace(TRAIN, arrays=TRAIN.arrays[::-1]))[0].pending() == []


def test_a_new_role_is_taken_over_and_costs_nothing(store):
    fill(store)
    with open_writer(store, HEADER, head=HEAD) as writer:
        assert writer.split(replace(FAR, role="near"))[0].pending() == []
    assert open_cache(store).of_role("near") == ["textures"]


def test_overwrite_throws_the_old_results_away(store, tmp_path):
    with open_writer(store, Origin({}, {"seed": 5}, {}), head=None) as writer:
        writer.split(replace(TRAIN, name="old"))
    fill(store, overwrite=True)
    assert tree(store) == tree(fill(tmp_path / "new"))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "other zarr", "other json"])
def test_what_is_not_ours_is_refused_and_left_as_it_is(store, kind, overwrite):
    store.mkdir(parents=True)
    (store / "splits").mkdir()
    (store / "splits" / "thesis.tex").write_text("years of work")
    if kind == "file":
        store = store / "splits" / "thesis.tex"
    elif kind == "other zarr":
        (store / "zarr.json").write_text('{"attributes": {}, "zarr_format": 3}')
    elif kind == "other json":
        (store / "zarr.json").write_text("[1")
    before = tree(store.parent)
    with pytest.raises(StoreError, match=r"made by latentood extract, but this is|are damaged"):
        open_writer(store, HEADER, head=HEAD, overwrite=overwrite)
    assert tree(store.parent) == before


def test_an_empty_folder_may_become_a_cache(store):
    store.mkdir(parents=True)
    fill(store)


@pytest.mark.parametrize("left", [".lock", "zarr.json~partial", "zarr.json.123~partial"])
def test_what_a_creation_killed_at_its_start_left_may_become_a_cache(store, tmp_path, left):
    store.mkdir(parents=True)
    (store / left).write_text("")
    assert tree(fill(store)) == tree(fill(tmp_path / "other"))


def test_an_unfinished_file_of_something_else_is_refused_and_left_as_it_is(store):
    store.mkdir(parents=True)
    (store / "thesis.tex~partial").write_text("years of work")
    before = tree(store)
    with pytest.raises(StoreError, match="made by latentood extract, but this is something else"):
        open_writer(store, HEADER, head=HEAD)
    assert tree(store) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_newer_cache_is_refused_and_left_as_it_is(store, overwrite):
    fill(store)
    text = (store / "zarr.json").read_text().replace('"schema": 2', '"schema": 3')
    (store / "zarr.json").write_text(text)
    before = tree(store)
    with pytest.raises(StoreError, match="reads caches of schema ≤ 2, but this one has schema 3"):
        open_writer(store, HEADER, head=HEAD, overwrite=overwrite)
    assert tree(store) == before


# What a block must be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": None}, "split 'train', block 0: logits is missing; give every array"),
        ({"logit": np.zeros(8)}, "no array 'logit' was declared; did you mean 'logits'"),
        (
            {"logits": np.zeros((7, 3), "f4")},
            r"logits must be float32 \(8, 3\), got float32 \(7, 3\)",
        ),
        ({"logits": np.zeros((8, 4), "f4")}, r"got float32 \(8, 4\); look at what computes it"),
        ({"logits": np.zeros((8, 3))}, r"logits must be float32 \(8, 3\), got float64"),
        ({"labels": np.zeros((8, 1), int)}, r"labels must be int64 \(8,\), got int64 \(8, 1\)"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(store, change, message):
    arrays = {k: v for k, v in (block_of(TRAIN, 0) | change).items() if v is not None}
    with open_writer(store, HEADER, head=HEAD) as writer:
        (split,) = writer.split(TRAIN)
        with pytest.raises(DataError, match=message):
            split.write(0, arrays)
        assert split.pending() == [0, 1, 2]


@pytest.mark.parametrize("block", [0, 3, -1])
def test_a_block_that_nobody_waits_for_is_refused(store, block):
    with open_writer(store, HEADER, head=HEAD) as writer:
        (split,) = writer.split(TRAIN)
        split.write(0, block_of(TRAIN, 0))
        with pytest.raises(
            StoreError, match=f"waits for blocks 1, 2, got block {block}; write only"
        ):
            split.write(block, block_of(TRAIN, 0))


def test_a_run_that_cannot_fit_is_refused_before_it_begins(store):
    with pytest.raises(StoreFull, match=r"x\.zarr: needs 909\.5 TiB"):
        require_free(store, 10**15)


def test_a_folder_that_may_not_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the system refused with Not a directory"):
        open_writer(tmp_path / "file" / "x.zarr", HEADER, head=HEAD)
