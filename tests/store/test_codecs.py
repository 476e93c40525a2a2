"""Which array gets which codec."""

import pytest

from latentood.store.codecs import choose_codec


@pytest.mark.parametrize(
    ("key", "tail", "dtype", "keep_bits", "codec"),
    [
        ("features/a", (512,), "float32", None, "lz4"),
        ("features/a", (512,), "float32", 7, "zstd"),
        ("features/a", (64, 8, 8), "float32", None, "zstd"),
        ("mc.features/a", (16, 512), "float16", None, "lz4"),
        ("mc.features/a", (16, 64, 8, 8), "float16", None, "zstd"),
        ("mc.logits", (16, 10), "float32", None, "lz4"),
        ("mc.entropy/a", (512,), "float32", None, "lz4"),
        ("logits", (10,), "float32", None, "lz4"),
        ("scores/odin", (), "float64", None, "lz4"),
        ("ids", (9,), "uint8", None, "zstd"),
        ("labels", (), "int64", None, "zstd"),
    ],
)
def test_an_array_gets_the_codec_that_suits_what_it_holds(key, tail, dtype, keep_bits, codec):
    assert choose_codec(key, tail, dtype, keep_bits) == codec
