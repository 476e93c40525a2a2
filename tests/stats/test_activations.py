import math

import pytest
import torch

from latentood.stats.activations import (
    clip,
    concentration,
    even_out,
    kept_units,
    prune,
    rectify,
    sharpen,
    sparsify,
)

ROW = torch.tensor([[4.0, 0.0, 1.0, 3.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("width", "percent", "kept"), [(5, 60, 2), (5, 0, 5), (5, 100, 1), (512, 90, 51), (8, 95, 1)]
)
def test_a_percentage_of_the_units_is_pruned_but_never_all(width, percent, kept):
    assert kept_units(width, percent) == kept


def test_each_function_has_its_known_values():
    two = torch.tensor(2.0, dtype=torch.float64)
    assert clip(ROW, two).tolist() == [[2, 0, 1, 2, 2]]
    assert rectify(ROW, two, 3 * two / 2).tolist() == [[3, 0, 0, 3, 2]]
    assert prune(ROW, 60).tolist() == [[4, 0, 0, 3, 0]]
    assert even_out(ROW, 60).tolist() == [[5, 0, 0, 5, 0]]
    assert concentration(ROW, 60).item() == 10 / 7
    torch.testing.assert_close(sharpen(ROW, 60), ROW * math.exp(10 / 7))


def test_without_pruning_rows_are_multiplied_by_e():
    torch.testing.assert_close(sharpen(ROW, 0), ROW * math.e, rtol=1e-15, atol=0)


def test_the_order_of_units_does_not_decide_between_ties():
    tied = torch.tensor([[1.0, 3.0, 1.0, 1.0]])
    assert prune(tied, 50).tolist() == [[1, 3, 1, 1]]
    assert even_out(tied, 50).tolist() == [[1.5] * 4]
    sparse = torch.tensor([[0.0, 6.0, 0.0, 0.0]])
    assert even_out(sparse, 50).tolist() == [[0, 6, 0, 0]]


def test_a_row_of_zeros_stays_one():
    zeros = torch.zeros(1, 5)
    for shape in (prune, even_out, sharpen):
        assert shape(zeros, 60).tolist() == zeros.tolist()
    assert concentration(zeros, 60).item() == 1


def test_no_row_overflows_at_the_largest_percentage_allowed():
    for width in (149, 150, 2048):
        assert sharpen(torch.ones(1, width, dtype=torch.float64), 99).isfinite().all()


def test_sparsity_zero_drops_the_smallest_contribution_alone():
    weight, mean = torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([2.0, 1.0])
    assert sparsify(weight, mean, 0).tolist() == [[1, 0], [3, 0.5]]
    assert sparsify(weight, mean, 50).tolist() == [[1, 0], [3, 0]]
    assert sparsify(weight, mean, 100).tolist() == [[0, 0], [0, 0]]
