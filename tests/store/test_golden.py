"""A cache that an earlier version wrote is read, value by value, and goes on as it was."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from latentood.errors import StoreError
from latentood.store.cache import open_cache
from latentood.store.schema import ArraySpec
from latentood.store.verify import discard, verify
from latentood.store.writer import open_writer
from tests.store.example import tree
from tests.store.golden.make import GOLDEN, HEAD, HEADER, IDS, OLD, WHOLE, values, write

both = pytest.mark.parametrize("golden", [OLD, GOLDEN], ids=lambda path: path.name)


@both
def test_a_golden_cache_is_read_value_by_value(golden):
    cache = open_cache(golden)
    assert cache.header == HEADER
    info = cache.splits["train"]
    assert (info.role, info.rows, info.block_rows) == ("fit", 5, 3)
    assert info.complete
    assert {array.key: array.how for array in info.arrays if array.how} == {
        "features/layer1.0#2": "none",
        "scores/odin": '{"eps":0.1}',
    }
    latents = cache["train"]
    np.testing.assert_array_equal(latents["logits"][:2], np.float32([[-50, -13], [24, -40]]) / 7)
    for array in WHOLE.arrays:
        if array.key != "ids":
            stored = latents[array.key].numpy()
            assert stored.dtype == array.dtype
            assert stored.tobytes() == values(array).tobytes()
    assert cache.ids("train") == IDS
    for stored, expected in zip(latents.head, HEAD, strict=True):
        np.testing.assert_array_equal(stored.numpy(), expected)


@both
def test_rounded_values_are_within_their_bits(golden):
    (array,) = [array for array in WHOLE.arrays if array.keep_bits]
    values = open_cache(golden)["train"][array.key].double().numpy().ravel()
    exact = ((37 * np.arange(40)) % 101 - 50) / 7
    assert (np.abs(values - exact) <= np.abs(exact) * 2.0**-8 * 1.0001).all()
    assert not np.array_equal(values, exact)


@both
def test_a_golden_cache_is_intact(golden):
    assert verify(golden) == []


@both
def test_zarr_alone_reads_a_golden_cache(golden):
    split = zarr.open_group(golden, mode="r", zarr_format=3)["splits/train"]
    for array in WHOLE.arrays:
        assert split[array.key.path][:].tobytes() == values(array).tobytes()


@both
def test_an_extraction_finds_nothing_to_do_in_it(tmp_path, golden):
    copy = shutil.copytree(golden, tmp_path / "x.zarr")
    write(copy)
    assert tree(copy) == tree(golden)


def test_a_cache_of_schema_1_stays_one_while_it_is_mended_and_extended(tmp_path):
    copy = shutil.copytree(OLD, tmp_path / "x.zarr")
    shard = copy / "splits/train/logits/c.1.0"
    shard.write_bytes((copy / "splits/train/logits/c.0.0").read_bytes())
    (problem,) = verify(copy)
    assert problem.what == "its arrays are not those that were committed together"
    discard(copy, [problem])
    write(copy)
    assert tree(copy) == tree(OLD)
    more = replace(WHOLE, arrays=(*WHOLE.arrays, ArraySpec("scores/react", (), "float64")))
    with open_writer(copy, HEADER, head=HEAD) as store:
        (writer,) = [writer for writer in store.split(more) if writer.pending()]
        for block in writer.pending():
            start, stop = writer.bounds(block)
            writer.write(block, {"scores/react": np.arange(start, stop, dtype=np.float64)})
    assert verify(copy) == []
    assert open_cache(copy).schema == 1
    np.testing.assert_array_equal(open_cache(copy).column("train", "react"), np.arange(5))


def test_the_documents_written_today_are_those_of_the_golden_cache(tmp_path):
    write(tmp_path / "x.zarr")
    ours, golden = tree(tmp_path / "x.zarr"), tree(GOLDEN)
    assert ours.keys() == golden.keys()
    for name in golden:  # what a codec packs may change with its version
        if name.endswith("zarr.json") or "/committed" in name:
            assert ours[name] == golden[name], name


def test_it_stays_small():
    files = [data for data in tree(GOLDEN).values() if data is not None]
    assert len(files) <= 40
    assert sum(map(len, files)) < 100_000


@pytest.mark.parametrize("where", ["", "splits/train"])
def test_a_newer_schema_is_one_clear_sentence(tmp_path, where):
    copy = shutil.copytree(GOLDEN, tmp_path / "x.zarr")
    document = copy / where / "zarr.json"
    text = document.read_text()
    if where:
        document.write_text(text.replace('"role": "fit"', '"role": "fit",\n "schema": 3'))
    else:
        document.write_text(text.replace('"schema": 2', '"schema": 3'))
    with pytest.raises(StoreError, match=r"reads caches of schema ≤ 2, but this one has schema 3"):
        open_cache(copy)
