"""One array on disk: whole shards in, the same rows out."""

import hashlib
import struct

import numpy as np
import pytest
import zarr

from latentood.store.documents import array_document, write_document
from latentood.store.shards import Damage, StoredArray, block_digest


@pytest.fixture
def array(tmp_path):
    document = array_document((20, 3), 8, "float32")
    write_document(tmp_path, document)
    return StoredArray(tmp_path, "logits", document)


ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def write_all(array, rows=ROWS):
    for block in range(array.blocks):
        start, stop = array.bounds(block)
        array.write(block, rows[start:stop])


@pytest.mark.parametrize(
    "span", [(0, 20), (0, 8), (3, 5), (7, 9), (15, 20), (5, 5), (18, 99), (0, 0)]
)
def test_any_span_of_rows_is_read_as_written(array, span):
    write_all(array)
    rows = array.read(*span)
    np.testing.assert_array_equal(rows, ROWS[slice(*span)])
    assert rows.dtype == np.float32
    assert rows.flags.writeable


def test_a_block_of_fill_values_is_on_the_disk_like_any_other(array):
    write_all(array, np.full((20, 3), np.nan, np.float32))
    assert [array.shard(block).exists() for block in range(3)] == [True] * 3
    assert np.isnan(array.read(0, 20)).all()


def test_bits_are_kept_even_of_values_that_compare_equal(array):
    odd = np.array([0x7FC00001, 0xFFC00002, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    rows = np.resize(odd, (20, 3))
    write_all(array, rows)
    np.testing.assert_array_equal(array.read(0, 20).view(np.uint32), rows.view(np.uint32))


def test_order_and_byte_order_in_memory_do_not_matter(array):
    write_all(array)
    expected = [array.shard(block).read_bytes() for block in range(3)]
    for rows in (np.asfortranarray(ROWS), ROWS.astype(">f4")):
        write_all(array, rows)
        assert [array.shard(block).read_bytes() for block in range(3)] == expected


def test_rewriting_a_shard_does_not_mix_in_the_old_one(array):
    write_all(array)
    array.shard(2).write_bytes(b"garbage")
    array.write(2, ROWS[16:20])
    np.testing.assert_array_equal(array.read(16, 20), ROWS[16:20])


def test_zarr_would_have_read_a_missing_and_an_empty_shard_as_fill_values(array):
    write_all(array)
    array.shard(0).unlink()
    array.shard(1).write_bytes(b"")
    plain = zarr.open_array(array.folder, mode="r", zarr_format=3)
    assert np.isnan(plain[:16]).all()
    for block in range(2):
        with pytest.raises(Damage, match="its file is missing or empty"):
            array.read_block(block)


def test_any_flipped_bit_and_any_truncation_of_a_shard_shows(array):
    write_all(array)
    intact = array.shard(1).read_bytes()
    for position in range(len(intact)):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << position % 8
        for damaged in (flipped, intact[:position]):
            array.shard(1).write_bytes(damaged)
            with pytest.raises(Damage) as caught:
                array.read_block(1)
            assert caught.value.block == 1


def test_damage_is_blamed_on_its_block_when_many_are_read(array):
    write_all(array)
    array.shard(1).write_bytes(array.shard(1).read_bytes()[:-1])
    with pytest.raises(Damage, match="its bytes are not those") as caught:
        array.read(2, 19)
    assert caught.value.block == 1
    np.testing.assert_array_equal(array.read(16, 20), ROWS[16:20])


def test_a_changed_document_is_damage(array, tmp_path):
    write_all(array)
    text = (tmp_path / "zarr.json").read_text()
    (tmp_path / "zarr.json").write_text(text.replace("float32", "int32").replace('"NaN"', "0"))
    with pytest.raises(Damage, match=r"its zarr.json is missing or was changed"):
        array.read(9, 12)


def test_the_digest_of_a_block_is_as_documented():
    arrays = [("logits", np.arange(6, dtype=np.float32).reshape(2, 3)), ("labels", np.arange(2))]
    written = b"labels\0int64\0[2]\0" + struct.pack("<2q", 0, 1)
    written += b"logits\0float32\0[2, 3]\0" + struct.pack("<6f", *range(6))
    expected = int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "little")
    assert block_digest(arrays) == block_digest(arrays[::-1]) == expected


@pytest.mark.parametrize(
    "other",
    [
        ("logit5", np.zeros((2, 3), np.float32)),
        ("logits", np.zeros((3, 2), np.float32)),
        ("logits", np.zeros((2, 3), np.int32)),
        ("logits", -np.zeros((2, 3), np.float32)),
    ],
    ids=["key", "shape", "dtype", "a bit"],
)
def test_the_digest_of_a_block_covers(other):
    assert block_digest([other]) != block_digest([("logits", np.zeros((2, 3), np.float32))])


def test_the_digest_of_a_block_does_not_depend_on_memory_layout():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    for same in (np.asfortranarray(rows), rows.astype(">f4")):
        assert block_digest([("logits", same)]) == block_digest([("logits", rows)])


def test_the_digest_of_a_block_is_never_the_number_for_not_there(monkeypatch):
    class Zero:
        def __init__(self, digest_size):
            pass

        def update(self, data):
            pass

        def digest(self):
            return bytes(8)

    monkeypatch.setattr("hashlib.blake2b", Zero)
    assert block_digest([("labels", np.zeros(2, np.int64))]) == 1
