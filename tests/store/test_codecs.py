"""Which array gets which codec, and rounding to fewer mantissa bits."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numcodecs import BitRound

from latentood.errors import ConfigError
from latentood.latents import Key
from latentood.store.cache import open_cache
from latentood.store.codecs import MANTISSA, choose_codec, keep_mantissa
from latentood.store.schema import ArraySpec
from latentood.store.verify import verify
from latentood.store.writer import open_writer
from tests.store.example import HEAD, HEADER, TRAIN, block_of, whole

WIDTHS = {"float16": 16, "float32": 32, "float64": 64}


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
    assert choose_codec(Key.parse(key), tail, dtype, keep_bits) == codec


# Rounding


def slow(pattern: int, dtype: str, bits: int) -> int:
    """Round one number, given and returned as the integer of its bits, with exact fractions."""
    size, stored = WIDTHS[dtype], MANTISSA[dtype]
    sign, magnitude = divmod(pattern, 1 << (size - 1))
    infinity = ((1 << (size - 1 - stored)) - 1) << stored
    if magnitude >= infinity:
        return pattern

    def value(magnitude: int) -> Fraction:
        exponent, mantissa = divmod(magnitude, 1 << stored)
        if exponent == 0:  # a subnormal number, or zero
            exponent = 1
        else:
            mantissa += 1 << stored
        return Fraction(mantissa) * Fraction(2) ** exponent

    step = 1 << (stored - bits)
    below = magnitude - magnitude % step
    above = below + step
    down, up = value(magnitude) - value(below), value(above) - value(magnitude)
    odd = below // step % 2 == 1
    nearest = above if up < down or (up == down and odd) else below
    return (sign << (size - 1)) + (nearest if nearest < infinity else below)


def assert_rounded(patterns: list[int], dtype: str, bits: int) -> None:
    """Compare bit for bit with the slow formula."""
    raw = np.array(patterns, f"u{WIDTHS[dtype] // 8}")
    given = raw.copy()
    rounded = keep_mantissa(given.view(dtype), bits)
    assert rounded.dtype == dtype
    assert rounded.view(raw.dtype).tolist() == [slow(pattern, dtype, bits) for pattern in patterns]
    assert np.array_equal(given, raw), "the values given are left as they were"


def special(dtype: str) -> list[int]:
    """Bits of zeros, subnormals, ones, the largest numbers, infinities and NaN of many payloads."""
    size, stored = WIDTHS[dtype], MANTISSA[dtype]
    infinity = ((1 << (size - 1 - stored)) - 1) << stored
    one = infinity // 2 // (1 << stored) * (1 << stored)
    near = {
        place + distance
        for place in (0, 1 << stored, one, infinity, (1 << (size - 1)) - 1)
        for bit in range(stored)
        for distance in (0, 1 << bit, -1 << bit, (1 << bit) - 1, 1 - (1 << bit))
    }
    magnitudes = sorted(pattern for pattern in near if 0 <= pattern < 1 << (size - 1))
    return magnitudes + [pattern + (1 << (size - 1)) for pattern in magnitudes]


@pytest.mark.parametrize("dtype", list(WIDTHS))
def test_special_numbers_are_rounded_bit_for_bit_by_the_formula(dtype):
    patterns = special(dtype)
    values = np.array(patterns, f"u{WIDTHS[dtype] // 8}").view(dtype)
    assert np.isnan(values).sum() > 4 * MANTISSA[dtype], "NaN of many payloads, quiet and not"
    assert np.isinf(values).sum() == 2
    for bits in range(1, MANTISSA[dtype]):
        assert_rounded(patterns, dtype, bits)


@pytest.mark.parametrize("bits", [1, 4, 9])
def test_every_float16_is_rounded_bit_for_bit_by_the_formula(bits):
    assert_rounded(list(range(1 << 16)), "float16", bits)


@given(data=st.data(), dtype=st.sampled_from(list(WIDTHS)))
def test_any_bits_are_rounded_bit_for_bit_by_the_formula(data, dtype):
    pattern = st.integers(0, (1 << WIDTHS[dtype]) - 1)
    patterns = data.draw(st.lists(pattern, min_size=1, max_size=9))
    assert_rounded(patterns, dtype, data.draw(st.integers(1, MANTISSA[dtype] - 1)))


@pytest.mark.parametrize("dtype", list(WIDTHS))
def test_the_largest_number_of_a_dtype_stays_finite_and_zeros_keep_their_sign(dtype):
    largest = np.finfo(dtype).max
    values = np.array([largest, -largest, 0.0, -0.0, np.inf, -np.inf], dtype)
    rounded = keep_mantissa(values, 3)
    cut = largest / (2 - 2.0 ** -MANTISSA[dtype]) * (2 - 2.0**-3)
    assert rounded[:2].tolist() == [cut, -cut]
    assert rounded[2:].tobytes() == values[2:].tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (2, 3, 4)])
def test_any_layout_is_rounded_like_a_plain_one(shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    values[..., :1] = np.inf
    expected = keep_mantissa(values.ravel(), 5).reshape(shape)
    for given_ in (values, np.asfortranarray(values), np.repeat(values, 2, axis=0)[::2]):
        rounded = keep_mantissa(given_, 5)
        assert rounded.shape == shape
        assert rounded.tobytes() == expected.tobytes()


@given(
    values=st.sampled_from(list(WIDTHS)).flatmap(
        lambda dtype: arrays.arrays(dtype, 5, elements=st.floats(width=WIDTHS[dtype]))
    ),
    bits=st.integers(1, 9),
)
def test_the_nearest_number_is_taken_and_what_is_not_finite_stays(values, bits):
    rounded = keep_mantissa(values, bits)
    assert rounded.dtype == values.dtype
    finite = np.isfinite(values)
    np.testing.assert_array_equal(np.isfinite(rounded), finite)
    assert rounded[~finite].tobytes() == values[~finite].tobytes()
    tiny = np.finfo(values.dtype).smallest_normal
    normal = finite & (np.abs(values) >= tiny) & (np.abs(values) < np.finfo(values.dtype).max / 2)
    with np.errstate(under="ignore"):
        error = np.abs(rounded[normal].astype("f8") - values[normal])
        assert (error <= np.abs(values[normal].astype("f8")) * 2.0 ** -(bits + 1)).all()
    drop = MANTISSA[values.dtype.name] - bits
    raw = rounded[finite].view(f"u{values.dtype.itemsize}")
    assert (raw & raw.dtype.type((1 << drop) - 1) == 0).all()
    assert keep_mantissa(rounded, bits).tobytes() == rounded.tobytes()


@pytest.mark.parametrize("dtype", list(WIDTHS))
@pytest.mark.parametrize("bits", [1, 5, 9])
def test_finite_numbers_are_rounded_as_numcodecs_does(dtype, bits):
    values = (np.random.default_rng(0).standard_normal((50, 3, 4)) * 100).astype(dtype)
    codec = BitRound(keepbits=bits)
    expected = codec.decode(codec.encode(values)).view(dtype).reshape(values.shape)
    np.testing.assert_array_equal(keep_mantissa(values, bits), expected)


def test_ties_go_to_the_even_number():
    values = np.array([1.25, 1.75, -1.25, -1.75], np.float32)  # halfway between 1, 1.5 and 2
    np.testing.assert_array_equal(keep_mantissa(values, 1), [1.0, 2.0, -1.0, -2.0])


def test_the_largest_number_is_cut_off_and_not_made_infinite():
    assert keep_mantissa(np.array([65504], np.float16), 2)[0] == 57344


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 23), ("float16", 10), ("float32", 0),
                                             ("float32", True), ("int64", 1)])  # fmt: skip
def test_bits_that_a_dtype_has_not_to_lose_are_refused(dtype, bits):
    with pytest.raises(ConfigError, match=rf"keep_bits must be from 1 to \d+ for {dtype}, got"):
        ArraySpec("features/a", (3,), dtype, keep_bits=bits)


def test_what_is_stored_hashed_and_read_is_rounded_and_zarr_alone_reads_it(tmp_path):
    spec = replace(TRAIN, arrays=(ArraySpec("features/a", (64,), "float32", keep_bits=7),))
    with open_writer(tmp_path / "x", HEADER, head=HEAD) as store:
        (writer,) = store.split(spec)
        for block in writer.pending():
            writer.write(block, block_of(spec, block))
    exact = whole(spec)["features/a"]
    expected = keep_mantissa(exact, 7)
    assert not np.array_equal(exact, expected)
    assert open_cache(tmp_path / "x")["train"]["features/a"].numpy().tobytes() == expected.tobytes()
    alone = zarr.open_group(tmp_path / "x", mode="r", zarr_format=3)["splits/train/features/a"]
    assert alone[:].tobytes() == expected.tobytes()
    assert verify(tmp_path / "x") == []
