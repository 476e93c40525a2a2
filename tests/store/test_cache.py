"""Reading a cache: the truth, or an error that names the block."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentood.errors import (
    DamagedBlock,
    IncompleteSplit,
    MissingInput,
    StoreError,
    UnknownName,
)
from latentood.latents import Latents
from latentood.latents.facts import Origin, digest
from latentood.store.cache import inspect, open_cache
from latentood.store.documents import group_document, write_document
from latentood.store.schema import ArraySpec
from latentood.store.writer import open_writer
from tests.store.example import ARRAYS, FAR, HEAD, HEADER, TRAIN, block_of, fill, whole


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("caches") / "x.zarr")


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "x.zarr")


def test_a_cache_says_what_it_holds(path):
    cache = open_cache(str(path))
    assert cache.path == path
    assert cache.header == HEADER
    assert list(cache.splits) == ["textures", "train"]
    info = cache.splits["train"]
    assert (info.role, info.rows, info.block_rows, info.blocks) == ("fit", 20, 8, 3)
    assert info.committed == (0, 1, 2)
    assert info.complete
    assert (info.arrays, info.data) == (ARRAYS, TRAIN.data)
    assert repr(cache) == f"Cache({str(path)!r}, splits: textures, train)"


def test_splits_are_found_by_role(path):
    cache = open_cache(path)
    assert cache.of_role("fit", "val") == ["train"]
    assert cache.of_role("near", "far") == ["textures"]
    assert cache.of_role("id") == []


def in_memory(spec):
    arrays = whole(spec)

    def layers(kind):
        return {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{kind}/")}

    return Latents(
        logits=arrays.get("logits"), labels=arrays.get("labels"), mc_logits=arrays.get("mc.logits"),
        hashes=arrays.get("hashes"),
        features=layers("features"), mc_features=layers("mc.features"),
        mc_entropy=layers("mc.entropy"), scores=layers("scores"), head=HEAD, name=spec.name,
    )  # fmt: skip


def test_lazy_latents_are_those_in_memory(path):
    lazy, memory = open_cache(path)["train"], in_memory(TRAIN)
    assert len(lazy) == 20
    assert set(lazy.keys()) == set(memory.keys())
    for key in memory.keys():  # noqa: SIM118
        if key != "head":
            assert lazy.shape(key) == memory.shape(key)
            assert lazy[key].dtype == memory[key].dtype
            assert torch.equal(lazy[key], memory[key])
    assert all(map(torch.equal, lazy.head, memory.head))


def test_ids_are_beside_the_latents_and_score_columns_among_them(path):
    cache = open_cache(path)
    assert cache.ids("train")[:2] == ["é/0.png", "é/1.png"]
    np.testing.assert_array_equal(cache.column("train", "odin"), whole(TRAIN)["scores/odin"])
    assert "ids" not in cache["train"]
    assert torch.equal(cache["train"]["scores/odin"], cache.column("train", "odin"))


def test_the_origin_is_the_run_the_split_and_its_data(path):
    origin = open_cache(path)["train"].origin
    assert origin == f"{HEADER.digest}:train:{digest(TRAIN.data)}"


@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 40),
    block_rows=st.integers(1, 45),
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4),
    arrays=st.lists(st.sampled_from(ARRAYS), min_size=1, unique=True),
    bits=st.randoms(use_true_random=False),
)
def test_whatever_is_written_is_read_for_any_block_layout(
    tmp_path_factory, rows, block_rows, spans, arrays, bits
):
    path = tmp_path_factory.mktemp("layout")
    spec = replace(
        TRAIN, rows=rows, block_rows=block_rows, arrays=(ArraySpec("logits", (3,), "float32"), *(
            array for array in arrays if array.key not in ("logits", "ids")
        )),
    )  # fmt: skip
    raw = np.random.default_rng(bits.getrandbits(32))
    truth = {  # any bits at all, NaN payloads included
        array.key: np.frombuffer(raw.bytes(rows * array.nbytes), array.dtype).reshape(
            rows, *array.tail
        )
        for array in spec.arrays
    }
    with open_writer(path, HEADER, head=None) as store:
        (writer,) = store.split(spec)
        for block in writer.pending():
            low, high = writer.bounds(block)
            writer.write(block, {key: values[low:high] for key, values in truth.items()})
    latents = open_cache(path)["train"]
    for key, values in truth.items():
        if not key.startswith("scores/"):
            for low, high in [*spans, (0, rows)]:
                read = latents.read(key, low, high).numpy()
                assert read.tobytes() == values[low:high].tobytes()


def test_a_cache_without_a_head_says_what_to_do(tmp_path):
    fill_without_head = open_writer(tmp_path / "x", HEADER, head=None)
    with fill_without_head as store:
        store.split(FAR)
    assert open_cache(tmp_path / "x").head is None


# Not there, or not there yet


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "file"])
def test_what_is_no_cache_is_one_sentence(tmp_path, kind):
    path = tmp_path / "x.zarr"
    if kind == "file":
        path.write_text("")
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(
        StoreError, match=r"x\.zarr: a cache must be a folder made by latentood ext"
    ):
        open_cache(path)


def test_an_unknown_split_names_the_nearest(path):
    cache = open_cache(path)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        cache["trian"]
    with pytest.raises(UnknownName, match="no array in split 'train' named 'scores/odim'; did you"):
        cache.column("train", "odim")
    with pytest.raises(UnknownName, match="no array in split 'textures' named 'ids'"):
        cache.ids("textures")
    with pytest.raises(MissingInput):
        cache["textures"]["labels"]


def test_an_incomplete_split_says_how_far_it_is(tmp_path):
    with open_writer(tmp_path / "x.zarr", HEADER, head=HEAD) as store:
        store.split(TRAIN)[0].write(1, block_of(TRAIN, 1))
    cache = open_cache(tmp_path / "x.zarr")
    assert cache.splits["train"].committed == (1,)
    assert not cache.splits["train"].complete
    for use in (lambda: cache["train"], lambda: cache.ids("train")):
        with pytest.raises(
            IncompleteSplit, match=r"'train' has 1 of 3 blocks of logits, .* 6 more; resume"
        ):
            use()


# Damage: bits, ends, files, documents. Every file of a split in turn.

SHARDS = [
    f"{array.key.path}/c.{block}{'.0' * len(array.tail)}" for array in ARRAYS for block in (0, 2)
]
DOCUMENTS = [f"{array.key.path}/zarr.json" for array in ARRAYS]
LOG = [f"committed/c.{block}.0" for block in range(3)]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-3])


def empty(file):
    file.write_bytes(b"")


def delete(file):
    file.unlink()


def read_everything(cache):
    latents = cache["train"]
    for key in latents.keys():  # noqa: SIM118
        if key != "head":
            latents[key]
    cache.ids("train")
    cache.column("train", "odin")


@pytest.mark.parametrize("harm", [flip, truncate, empty, delete])
def test_no_damage_is_ever_read_as_a_number(copy, harm):
    for name in [*SHARDS, *DOCUMENTS, *LOG]:
        file = copy / "splits" / "train" / name
        intact = file.read_bytes()
        harm(file)
        with pytest.raises(DamagedBlock) as caught:
            read_everything(open_cache(copy))
        file.write_bytes(intact)
        key = name.rpartition("/")[0].replace("mc/", "mc.")
        block = 0 if name.endswith("zarr.json") else name.split("/c.")[1].split(".")[0]
        where = f"x.zarr: split 'train', block {block}: {key} is damaged: its "
        assert where in str(caught.value)
        assert str(caught.value).endswith("then latentood extract to compute it again")
    read_everything(open_cache(copy))


def test_damage_does_not_hide_the_blocks_around_it(copy):
    flip(copy / "splits/train/logits/c.1.0")
    latents = open_cache(copy)["train"]
    np.testing.assert_array_equal(latents.read("logits", 0, 8), whole(TRAIN)["logits"][:8])
    with pytest.raises(DamagedBlock, match="block 1: logits is damaged"):
        latents.read("logits", 7, 9)


@pytest.mark.parametrize("harm", [flip, truncate, empty, delete])
@pytest.mark.parametrize("name", ["weight/c.0.0", "bias/c.0", "weight/zarr.json"])
def test_a_damaged_head_is_an_error(copy, name, harm):
    harm(copy / "head" / name)
    with pytest.raises(
        DamagedBlock, match=r"the head is damaged: its .*; run latentood extract to wr"
    ):
        open_cache(copy)["train"]


def test_a_swapped_head_is_an_error(copy, tmp_path):
    other = tmp_path / "other"
    open_writer(other, HEADER, head=(HEAD[0] + 1, HEAD[1])).close()
    shutil.copy(other / "head/weight/c.0.0", copy / "head/weight/c.0.0")
    with pytest.raises(DamagedBlock, match="the head is damaged"):
        open_cache(copy)["train"].head  # noqa: B018


@pytest.mark.parametrize("harm", [flip, truncate, empty, delete])
@pytest.mark.parametrize("name", ["zarr.json", "splits/train/zarr.json"])
def test_damaged_metadata_are_one_sentence(copy, name, harm):
    harm(copy / name)
    with pytest.raises(StoreError, match=r"x\.zarr.*(extract|cannot be used)"):
        open_cache(copy)


# A store made by someone who means harm: sealed, but with names and shapes we would not write.


def forge(copy, **changes):
    write_document(copy / "splits/train", group_document(TRAIN.to_json() | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../etc"},
        {"name": "textures"},
        {"role": "root"},
        {"rows": -1},
        {"rows": "20"},
        {"block_rows": 0},
        {"arrays": [{"key": "features/../../../x", "tail": [3], "dtype": "float32"}]},
        {"arrays": [{"key": "/etc/passwd", "tail": [3], "dtype": "float32"}]},
        {"arrays": [{"key": "logits", "tail": [3], "dtype": "object"}]},
        {"arrays": [{"key": "logits", "tail": 3, "dtype": "float32"}]},
        {"arrays": 3},
        {"data": 3},
    ],
)
def test_metadata_that_no_writer_makes_are_refused(copy, changes):
    forge(copy, **changes)
    with pytest.raises(
        StoreError, match=r"metadata of split 'train' must be as latentood wrote them"
    ):
        open_cache(copy)


def test_a_folder_with_a_name_no_split_can_have_is_refused(copy):
    (copy / "splits" / "a b").mkdir()
    with pytest.raises(StoreError, match=r"metadata of split 'a b' must be .*a name must be"):
        open_cache(copy)


@pytest.mark.parametrize(
    "head",
    [{"weight": 3}, {"digest": "x"}, {"weight": {"shape": [], "dtype": "float32"}}, 5, "x", [1]],
)
def test_root_metadata_that_no_writer_makes_are_refused(copy, head):
    stored = json.loads((copy / "zarr.json").read_text())["attributes"]["latentood"]
    del stored["digest"]
    write_document(copy, group_document(stored | {"head": head}))
    with pytest.raises(StoreError, match="metadata must be as latentood wrote them"):
        open_cache(copy)


# inspect


def test_inspect_counts_what_is_there(path):
    about = json.loads(json.dumps(inspect(path)))
    assert about["schema"] == 2
    assert about["digest"] == HEADER.digest
    assert about["fingerprint"] == HEADER.fingerprint
    assert about["head"] == [3, 4]
    train = about["splits"]["train"]
    assert (train["role"], train["rows"], train["blocks"], train["committed"]) == ("fit", 20, 3, 3)
    assert train["complete"] is True
    logits = next(array for array in train["arrays"] if array["key"] == "logits")
    folder = path / "splits/train/logits"
    assert (logits["shape"], logits["dtype"], logits["raw"]) == ([20, 3], "float32", 240)
    assert logits["stored"] == sum(file.stat().st_size for file in folder.iterdir())
    assert logits["ratio"] == 240 / logits["stored"]
    assert about["total"]["raw"] == 20 * TRAIN.nbytes + 7 * FAR.nbytes


def test_inspect_counts_only_committed_rows(tmp_path):
    with open_writer(tmp_path / "x", Origin({}, {}, {}), head=None) as store:
        store.split(TRAIN)[0].write(2, block_of(TRAIN, 2))
    train = inspect(tmp_path / "x")["splits"]["train"]
    assert (train["committed"], train["complete"]) == (1, False)
    assert {array["key"]: array["raw"] for array in train["arrays"]}["logits"] == 4 * 3 * 4
