import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentood.stats.quantiles import OrderStatistics, order, percentile


def selected(blocks: list[torch.Tensor], ranks: list[int]) -> torch.Tensor:
    first = blocks[0]
    search = OrderStatistics(ranks, first.shape[1], first.dtype, first.device)
    for _ in range(search.reads):
        for block in blocks:
            search.add(block)
        search.end_read()
    return search.result()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("columns", [1, 5])
def test_every_rank_of_every_float_type_is_exact(dtype, columns):
    values = torch.randn(301, columns, dtype=torch.float64).to(dtype)
    values[:40] = 0.0  # ties, as a ReLU leaves them
    values[40] = -0.0
    expected = values.double().sort(dim=0).values
    ranks = [0, 1, 150, 299, 300]
    assert torch.equal(selected(list(values.split(64)), ranks), expected[ranks])


def test_columns_of_different_scale_do_not_disturb_each_other():
    values = torch.randn(200, 4) * torch.tensor([1e-30, 1.0, -1e30, 0.0])
    expected = values.double().sort(dim=0).values
    assert torch.equal(selected([values], [20, 180]), expected[[20, 180]])


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e300, 1e300)),
    st.floats(0, 100),
)
def test_a_percentile_is_that_of_numpy(values, percent):
    value = float(percentile(torch.from_numpy(values), percent))
    expected = np.percentile(values / 4, percent) * 4  # its difference would overflow
    assert np.isclose(value / 4, expected / 4, rtol=1e-12, atol=1e-12)


def test_more_values_than_torch_can_sort_in_a_quantile():
    values = torch.arange(1 << 24 | 1, dtype=torch.float32)  # torch.quantile stops at 2²⁴
    assert float(percentile(values, 50.0)) == 1 << 23


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(1, 50.0, (0, 0.0)), (5, 0.0, (0, 0.0)), (5, 100.0, (4, 0.0)), (5, 50.0, (2, 0.0))],
)
def test_ends_and_middles_need_no_interpolation(count, percent, expected):
    assert order(count, percent) == expected


def test_a_percentile_lies_between_two_ranks():
    assert order(11, 95.0) == pytest.approx((9, 0.5))
