import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentood.stats import moments as module
from latentood.stats.moments import ClassSums, MomentSums, RowMoments, column_scale


def streamed(rows: torch.Tensor, sizes: list[int], together: int = 1) -> RowMoments:
    """Take in chunks of some sizes, multiplied once there are so many elements."""
    sums = MomentSums()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOGETHER", together)
        patch.setattr(module, "_STEPS", 2)
        for part in rows.split(sizes):
            sums.add(part)
        return sums.result()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    together=st.sampled_from([1, 30, 1 << 23]),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    seed=st.integers(0, 999),
)
def test_chunks_of_any_size_give_the_moments_of_the_whole_at_any_offset(
    sizes, together, offset, seed
):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(sizes), 3, generator=draw, dtype=torch.float64)
    rows = (rows + offset) - offset  # what the offset leaves of the digits
    moments = streamed(rows + offset, sizes, together)
    centred = rows - rows.mean(dim=0)
    assert moments.count == len(rows)
    torch.testing.assert_close(moments.mean - offset, rows.mean(dim=0), rtol=0, atol=1e-9)
    torch.testing.assert_close(moments.scatter, centred.T @ centred, rtol=1e-9, atol=1e-8)


def test_an_offset_a_million_spreads_away_costs_a_naive_sum_its_digits_but_not_ours():
    rows = torch.randn(400, 3, dtype=torch.float64)
    far = rows + 1e6
    centred = far - far.mean(dim=0)
    exact = centred.T @ centred
    naive = far.T @ far - len(far) * torch.outer(far.mean(dim=0), far.mean(dim=0))
    ours = streamed(far, [100] * 4).scatter
    assert (ours - exact).abs().max() < 1e-8 * exact.abs().max()
    assert (naive - exact).abs().max() > 1e-6 * exact.abs().max()


def test_total_scatter_is_tied_scatter_and_that_of_the_class_means():
    rows, labels = torch.randn(60, 4, dtype=torch.float64), torch.arange(60) % 3
    rows = rows + 3.0 * labels.unsqueeze(1)
    sums = ClassSums(3, 4, rows.device)
    sums.add(rows[:25], labels[:25])
    sums.add(rows[25:], labels[25:])
    centred = rows - torch.stack([rows[labels == c].mean(dim=0) for c in range(3)])[labels]
    tied = streamed(rows, [25, 35]).tied(sums.counts, sums.means())
    torch.testing.assert_close(tied.matrix, centred.T @ centred / 60, rtol=1e-12, atol=1e-12)


def test_a_covariance_can_be_taken_about_any_origin():
    rows, origin = torch.randn(40, 3, dtype=torch.float64), torch.tensor([1.0, -2.0, 5.0]).double()
    about = streamed(rows, [40]).about(origin)
    expected = (rows - origin).T @ (rows - origin) / 40
    torch.testing.assert_close(about.matrix, expected, rtol=1e-12, atol=1e-12)


def test_one_row_about_another_origin_has_rank_one():
    row, origin = torch.randn(1, 7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    assert streamed(row, [1]).about(origin).rank == 1


def test_a_column_is_constant_only_if_it_varies_by_rounding_alone():
    rows = torch.full((3000, 4), 0.1, dtype=torch.float64)
    rows[:, 1] += 1e-9 * torch.randn(3000)
    rows[:, 2] = 0.0
    rows[:, 3] = 1e-30 * torch.randn(3000)
    moments = streamed(rows, [1000, 1000, 1000])
    scale = column_scale(moments.mean, moments.covariance.matrix.diagonal())
    torch.testing.assert_close(scale[[1, 3]], rows[:, [1, 3]].std(dim=0, correction=0))
    assert scale[[0, 2]].tolist() == [1.0, 1.0]


def test_groups_have_their_means_and_an_empty_one_has_zero():
    sums = ClassSums(3, 2, torch.device("cpu"))
    sums.add(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64), torch.tensor([2, 2]))
    sums.add(torch.tensor([[5.0, 0.0]], dtype=torch.float64), torch.tensor([0]))
    assert sums.counts.tolist() == [1, 0, 2]
    assert sums.means().tolist() == [[5.0, 0.0], [0.0, 0.0], [2.0, 3.0]]


def test_moments_of_nothing_are_refused():
    with pytest.raises(RuntimeError, match="at least one chunk"):
        MomentSums().result()


def test_the_rows_given_are_left_untouched():
    rows = torch.randn(10, 3, dtype=torch.float64)
    kept = rows.clone()
    streamed(rows, [4, 6])
    assert torch.equal(rows, kept)


@pytest.mark.parametrize("value", [0.1, 1e-9, 3e7])  # no sum of them is exact
def test_equal_rows_have_no_spread_though_their_mean_is_rounded(value):
    moments = streamed(torch.full((20, 9), value, dtype=torch.float64), [7, 6, 7])
    assert moments.covariance.rank == 0
    assert moments.tied(torch.tensor([20.0]), moments.mean.unsqueeze(0)).rank == 0
