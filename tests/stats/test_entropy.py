"""The estimator equals the entropy_estimators package and the definition, also at its edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import digamma

import latentood as lo
from latentood.errors import DataError
from latentood.stats.entropy import _sorting_network, kl_entropy


def by_definition(column: np.ndarray, k: int, floor: float = 1e-5) -> float:
    """One column, from the formula, with every distance written out."""
    size = len(column)
    k = min(k, size - 1)
    total = 0.0
    for i in range(size):
        others = sorted(abs(column[i] - column[j]) for j in range(size) if j != i)
        total += math.log(2 * max(others[k - 1], floor))
    return float(digamma(size) - digamma(k) + total / size)


@settings(max_examples=60, deadline=None)
@given(
    samples=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(2, 20), st.integers(1, 4)),
        # Few distinct values make ties and constant columns common.
        elements=st.one_of(
            st.sampled_from([-1.0, 0.0, 0.5, 2.0]), st.floats(-1e6, 1e6, allow_subnormal=False)
        ),
    ),
    k=st.integers(1, 7),
)
def test_it_equals_the_definition(samples, k):
    expected = [[by_definition(row[:, d], k) for d in range(row.shape[1])] for row in samples]
    got = kl_entropy(torch.from_numpy(samples), k=k).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("passes", [2, 3, 5, 6, 16, 33, 70])
@pytest.mark.parametrize("kind", ["normal", "ties", "constant"])
def test_it_equals_the_entropy_estimators_package(passes, kind):
    generator = torch.Generator().manual_seed(passes)
    samples = torch.randn(4, passes, 6, dtype=torch.float64, generator=generator)
    if kind == "ties":
        samples = samples.round()
    if kind == "constant":
        samples = torch.full_like(samples, 3.25)
    theirs = kl_entropy(samples, backend="entropy_estimators")
    torch.testing.assert_close(kl_entropy(samples), theirs, rtol=0, atol=1e-9)


def test_it_is_public():
    samples = torch.randn(3, 8, 2)
    assert torch.equal(lo.stats.kl_entropy(samples), kl_entropy(samples))


def test_a_constant_dimension_gives_the_published_value():
    value = kl_entropy(torch.zeros(1, 16, 1))
    assert value.item() == pytest.approx(-9.5849, abs=5e-5)


def test_a_gaussian_sample_approaches_its_true_entropy():
    samples = torch.randn(
        64, 500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    truth = 0.5 * math.log(2 * math.pi * math.e)
    assert kl_entropy(samples).mean().item() == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_float_dtype_is_computed_in_float64(dtype):
    samples = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = kl_entropy(samples)
    assert got.dtype == torch.float64
    assert torch.equal(got, kl_entropy(samples.double()))


def test_rows_do_not_depend_on_how_many_are_computed_together():
    samples = torch.randn(300, 16, 128, generator=torch.Generator().manual_seed(2))
    one_by_one = torch.cat([kl_entropy(row[None]) for row in samples])
    assert torch.equal(kl_entropy(samples), one_by_one)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 16, 31, 64])
def test_the_network_sorts_every_zero_one_input(size):
    # A network that sorts all 0/1 inputs sorts everything (Knuth's zero-one principle).
    if size <= 13:
        bits = np.array(np.meshgrid(*[[0, 1]] * size)).reshape(size, -1).T.copy()
    else:
        bits = np.random.default_rng(size).integers(0, 2, (4000, size))
    for low, high in _sorting_network(size):
        bits[:, [low, high]] = np.sort(bits[:, [low, high]], axis=1)
    assert (np.diff(bits, axis=1) >= 0).all()


def test_no_rows_give_no_entropies():
    assert kl_entropy(torch.zeros(0, 16, 3)).shape == (0, 3)


def test_the_inputs_are_left_alone():
    samples = torch.randn(3, 16, 2, dtype=torch.float64)
    before = samples.clone()
    kl_entropy(samples)
    assert torch.equal(samples, before)


def test_one_pass_is_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match="T must be ≥ 2 and k ≥ 1, got T=1"):
        kl_entropy(torch.zeros(3, 1, 2))
    with pytest.raises(DataError, match=r"samples must be \(N, T, D\), got \(3, 2\)"):
        kl_entropy(torch.zeros(3, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_same_answer():
    samples = torch.randn(100, 16, 64, dtype=torch.float64)
    torch.testing.assert_close(
        kl_entropy(samples.cuda()).cpu(), kl_entropy(samples), rtol=0, atol=1e-12
    )
