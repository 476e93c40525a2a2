"""Rounding to fewer mantissa bits."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numcodecs import BitRound

from latentood.errors import ConfigError
from latentood.store.cache import open_cache
from latentood.store.codecs import MANTISSA, keep_mantissa
from latentood.store.schema import ArraySpec
from latentood.store.verify import verify
from latentood.store.writer import open_writer
from tests.store.example import HEAD, HEADER, TRAIN, block_of, whole

WIDTHS = {"float16": 16, "float32": 32, "float64": 64}


@given(
    values=st.sampled_from(list(WIDTHS)).flatmap(
        lambda dtype: arrays.arrays(dtype, 5, elements=st.floats(width=WIDTHS[dtype]))
    ),
    bits=st.integers(1, 9),
)
def test_the_nearest_number_is_taken_and_what_is_not_finite_stays(values, bits):
    found = keep_mantissa(values, bits)
    assert found.dtype == values.dtype
    finite = np.isfinite(values)
    np.testing.assert_array_equal(np.isfinite(found), finite)
    assert found[~finite].tobytes() == values[~finite].tobytes()
    tiny = np.finfo(values.dtype).smallest_normal
    normal = finite & (np.abs(values) >= tiny) & (np.abs(values) < np.finfo(values.dtype).max / 2)
    with np.errstate(under="ignore"):
        error = np.abs(found[normal].astype("f8") - values[normal])
        assert (error <= np.abs(values[normal].astype("f8")) * 2.0 ** -(bits + 1)).all()
    drop = MANTISSA[values.dtype.name] - bits
    raw = found[finite].view(f"u{values.dtype.itemsize}")
    assert (raw & raw.dtype.type((1 << drop) - 1) == 0).all()
    assert keep_mantissa(found, bits).tobytes() == found.tobytes()


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
