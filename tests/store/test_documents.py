"""The zarr.json documents: what zarr would write, and sealed against damage."""

import json
import warnings

import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from latentood.errors import ConfigError, StoreError
from latentood.store import documents
from latentood.store.documents import (
    array_document,
    group_document,
    log_document,
    read_attributes,
    same_document,
    split_documents,
    write_document,
)
from latentood.store.schema import SCHEMA
from tests.store.example import TRAIN


def written_by_zarr(**settings):
    store = zarr.storage.MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unstable-format notes are not about these settings
        zarr.create_array(
            store, zarr_format=3, filters=None,
            chunk_key_encoding={"name": "default", "separator": "."}, **settings,
        )  # fmt: skip
    return json.loads(store._store_dict["zarr.json"].to_bytes())


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("float32", float("nan")), ("int64", 0), ("uint8", 0), ("float16", float("nan"))],
)
def test_an_array_document_is_what_zarr_itself_would_write(dtype, fill):
    size = int(dtype[-2:]) // 8 if dtype != "uint8" else 1
    ours = array_document((2000, 3, 512), 512, dtype)
    chunk = ours["codecs"][0]["configuration"]["chunk_shape"]
    blosc = BloscCodec(typesize=size, cname="lz4", clevel=5, shuffle="bitshuffle", blocksize=0)
    assert ours == written_by_zarr(
        shape=(2000, 3, 512), dtype=dtype, fill_value=fill, shards=(512, 3, 512),
        chunks=tuple(chunk), compressors=[blosc, Crc32cCodec()],
    )  # fmt: skip


def test_a_commit_log_document_is_what_zarr_itself_would_write():
    for arrays in ((), (3,)):  # before schema 2, and since
        assert log_document(7, *arrays) == written_by_zarr(
            shape=(7, *arrays),
            dtype="uint64",
            fill_value=0,
            chunks=(1, *arrays),
            compressors=[Crc32cCodec()],
        )


def test_a_group_document_is_what_zarr_itself_would_write():
    store = zarr.storage.MemoryStore()
    zarr.create_group(store, zarr_format=3)
    assert group_document() == json.loads(store._store_dict["zarr.json"].to_bytes())


@pytest.mark.parametrize(
    ("block_rows", "width", "chunk"),
    [
        (1024, 512, 256),  # the usual case
        (4096, 512, 256),
        (1024, 1, 1024),  # 4 kB in all: not worth cutting
        (1000, 512, 250),  # the divisor nearest to 256
        (1021, 512, 1021),  # a prime: whole is better than single rows
        (1024, 16 * 2048, 16),  # 2 MB, however wide the rows
        (64, 512, 64),
        (1, 512, 1),
        (8, 1 << 22, 1),  # one row is more than 2 MB
    ],
)
def test_inner_chunks_divide_the_shard_and_stay_handy(block_rows, width, chunk):
    document = array_document((9999, width), block_rows, "float32")
    assert document["codecs"][0]["configuration"]["chunk_shape"] == [chunk, width]
    assert block_rows % chunk == 0


def test_every_group_on_the_way_to_an_array_has_a_document():
    assert list(split_documents(TRAIN, SCHEMA)) == [
        ".", "committed", "logits", "labels", "ids", "features", "features/layer1.0#2",
        "features/penultimate", "mc", "mc/logits", "mc/features", "mc/features/layer1",
        "mc/entropy", "mc/entropy/layer1", "scores", "scores/odin", "hashes",
    ]  # fmt: skip


def test_attributes_come_back_as_they_were(tmp_path):
    attributes = {"schema": 1, "x": [1, None, "é"], "y": {"z": 0.1}}
    write_document(tmp_path, group_document(attributes))
    assert read_attributes(tmp_path) == attributes


def test_numbers_as_keys_do_not_break_the_seal(tmp_path):
    write_document(tmp_path, group_document({"classes": {10: "a", 9: "b"}}))
    assert read_attributes(tmp_path) == {"classes": {"10": "a", "9": "b"}}


def test_a_flipped_bit_in_any_byte_of_the_attributes_shows(tmp_path):
    write_document(tmp_path, group_document({"schema": 1, "fingerprint": {"seed": 0}}))
    intact = (tmp_path / "zarr.json").read_bytes()
    for position in range(0, 8 * len(intact), 3):
        damaged = bytearray(intact)
        damaged[position // 8] ^= 1 << position % 8
        (tmp_path / "zarr.json").write_bytes(damaged)
        try:
            assert read_attributes(tmp_path) is None  # the name of our attributes was hit
        except StoreError:
            continue


@pytest.mark.parametrize("change", [b" ", b"\n", b"\t"])
def test_not_even_a_blank_may_change(tmp_path, change):
    write_document(tmp_path, group_document({"schema": 1}))
    with (tmp_path / "zarr.json").open("ab") as file:
        file.write(change)
    assert not same_document(tmp_path, group_document({"schema": 1}))
    with pytest.raises(StoreError, match="do not match their own digest"):
        read_attributes(tmp_path)


def test_a_document_is_neither_long_nor_deep(tmp_path, monkeypatch):
    deep: list = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ConfigError, match="100 levels, got more levels"):
        write_document(tmp_path, group_document({"args": deep}))
    text = '{"attributes": {"latentood": {"args": %s}}}'
    (tmp_path / "zarr.json").write_text(text % ("[" * 500 + "]" * 500))
    with pytest.raises(StoreError, match="the metadata are damaged"):
        read_attributes(tmp_path)
    monkeypatch.setattr(documents, "_MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match="at most 1000 B"):
        write_document(tmp_path, group_document({"args": "x" * 1000}))
    (tmp_path / "zarr.json").write_text(text % ('"' + "x" * 1000 + '"'))
    with pytest.raises(StoreError, match="it has more than 1000 B"):
        read_attributes(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"attributes": 3}', "[" * 100000, "\xff"]
)
def test_a_document_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match="the metadata are damaged"):
        read_attributes(tmp_path)


def test_a_newer_schema_is_refused_before_its_seal_is_checked(tmp_path):
    document = {"attributes": {"latentood": {"schema": 3, "sealed_otherwise": True}}}
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(
        StoreError, match=r"reads caches of schema ≤ 2, but this one has schema 3; up"
    ):
        read_attributes(tmp_path)
