"""Names, shapes and ids: what a cache can hold, and what it refuses."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentood.errors import ConfigError, DataError
from latentood.store.schema import ArraySpec, SplitSpec, check_name, decode_ids, encode_ids
from tests.store.example import TRAIN

ESCAPES = [
    "", ".", "..", "../x", "a/b", "/etc", "a\\b", ".hidden", "a b", "a\n", "é", "a~partial", "C:x",
    "zarr.json", "ZARR.json", "__reserved", "a\0", "x" * 201, None, 3,
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_could_leave_the_store_is_refused(name):
    with pytest.raises(ConfigError, match=r"split: a name must be 1 to 200 letters.*got .*rename"):
        check_name("split", name)


@pytest.mark.parametrize(
    "name", ["layer1.0.conv2#1", "id_test", "-x", "_x", "#", "a..b", "x" * 200]
)
def test_a_dotted_module_name_is_taken(name):
    assert check_name("layer", name) == name


@pytest.mark.parametrize("kind", ["features", "mc.features", "mc.entropy", "scores"])
@pytest.mark.parametrize("name", ["..", "zarr.json", "__x", "a b"])
def test_the_name_within_a_key_is_checked_too(kind, name):
    with pytest.raises(ConfigError, match=f"{kind}: a name must be"):
        ArraySpec(f"{kind}/{name}", (3,), "float32")


@pytest.mark.parametrize("kind", ["features", "mc.features", "mc.entropy", "scores"])
@pytest.mark.parametrize("name", ["a/b", "/etc", "../../x", ""])
def test_a_name_that_is_empty_or_has_a_slash_makes_no_key(kind, name):
    message = re.escape(f"no array can be called '{kind}/{name}'; ")
    with pytest.raises(ConfigError, match=rf"^{message}(did you mean|known:) .*'{kind}/<name>'"):
        ArraySpec(f"{kind}/{name}", (3,), "float32")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("logits", "logits"),
        ("ids", "ids"),
        ("mc.logits", "mc/logits"),
        ("features/a.b", "features/a.b"),
        ("mc.features/a.b", "mc/features/a.b"),
        ("mc.entropy/a", "mc/entropy/a"),
        ("scores/odin", "scores/odin"),
    ],
)
def test_a_key_has_one_place_on_disk(key, path):
    assert ArraySpec(key, (3,), "float32").key.path == path


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match="no array can be called 'logit'; did you mean 'logits'"):
        ArraySpec("logit", (3,), "float32")


@pytest.mark.parametrize("tail", [(0,), (-1,), (2.0,), (True,), ("3",)])
def test_a_row_without_a_size_is_refused(tail):
    with pytest.raises(ConfigError, match="logits: the shape of a row must be made of whole"):
        ArraySpec("logits", tail, "float32")


@pytest.mark.parametrize("dtype", ["object", "bfloat16", "<U3", "float128", "O"])
def test_a_dtype_that_other_readers_may_not_know_is_refused(dtype):
    with pytest.raises(ConfigError, match=r"logits: dtype must be one of float16, .* got "):
        ArraySpec("logits", (3,), dtype)


def test_bytes_per_row_are_counted():
    assert ArraySpec("mc.logits", (2, 3), "float16").nbytes == 12
    assert ArraySpec("labels", (), "int64").nbytes == 8
    assert TRAIN.nbytes == 12 + 8 + 12 + 10 + 16 + 24 + 40 + 40 + 8 + 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "split: a name must be"),
        (
            {"role": "test"},
            "split 'train': role must be one of fit, val, tune, id, near, far, mixed, got 'test'",
        ),
        ({"rows": 0}, "split 'train': rows must be a whole number > 0, got 0"),
        ({"block_rows": 2.5}, "block_rows must be a whole number > 0, got 2.5"),
        ({"arrays": ()}, "at least one array and each only once, got none"),
        ({"arrays": TRAIN.arrays[:1] * 2}, "each only once, got 'logits' twice"),
    ],
)
def test_a_split_that_cannot_be_kept_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TRAIN, **change)


def test_blocks_cover_all_rows_once():
    assert TRAIN.blocks == 3
    assert [TRAIN.bounds(block) for block in range(3)] == [(0, 8), (8, 16), (16, 20)]


def test_a_split_survives_json():
    assert SplitSpec.from_json(TRAIN.to_json()) == TRAIN


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(names, min_size=1, max_size=8))
def test_ids_come_back_as_they_were(texts):
    rows = encode_ids(texts, 48)
    assert rows.shape == (len(texts), 48)
    assert rows.dtype == np.uint8
    assert decode_ids(rows) == texts


def test_a_file_name_that_is_no_valid_unicode_survives():
    assert decode_ids(encode_ids(["caf\udce9.png"], 9)) == ["caf\udce9.png"]


@pytest.mark.parametrize("text", ["ééé", "a\0"])
def test_an_id_that_would_be_cut_is_refused(text):
    with pytest.raises(DataError, match=r"ids: each must have at most 5 bytes.*; shorten it"):
        encode_ids(["ok", text], 5)
