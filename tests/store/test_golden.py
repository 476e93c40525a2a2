"""A cache that an earlier version wrote is read, value by value, and goes on as it was."""

import shutil

import numpy as np
import pytest
import zarr

from latentood.errors import StoreError
from latentood.store.cache import open_cache
from latentood.store.verify import verify
from tests.store.example import tree
from tests.store.golden.make import GOLDEN, HEAD, HEADER, IDS, WHOLE, values, write


def test_the_golden_cache_is_read_value_by_value():
    cache = open_cache(GOLDEN)
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


def test_rounded_values_are_within_their_bits():
    (array,) = [array for array in WHOLE.arrays if array.keep_bits]
    values = open_cache(GOLDEN)["train"][array.key].double().numpy().ravel()
    exact = ((37 * np.arange(40)) % 101 - 50) / 7
    assert (np.abs(values - exact) <= np.abs(exact) * 2.0**-8 * 1.0001).all()
    assert not np.array_equal(values, exact)


def test_the_golden_cache_is_intact():
    assert verify(GOLDEN) == []


def test_zarr_alone_reads_the_golden_cache():
    split = zarr.open_group(GOLDEN, mode="r", zarr_format=3)["splits/train"]
    for array in WHOLE.arrays:
        assert split[array.key.path][:].tobytes() == values(array).tobytes()


def test_an_extraction_finds_nothing_to_do_in_it(tmp_path):
    copy = shutil.copytree(GOLDEN, tmp_path / "x.zarr")
    write(copy)
    assert tree(copy) == tree(GOLDEN)


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
        document.write_text(text.replace('"role": "fit"', '"role": "fit",\n "schema": 2'))
    else:
        document.write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(StoreError, match=r"reads caches of schema ≤ 1, but this one has schema 2"):
        open_cache(copy)
