import pytest
import torch

from latentood.stats.neighbours import similarity
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.similarity import Guides, products, top_mean


def guides(bank: torch.Tensor) -> Guides:
    return Guides(len(bank), lambda part: bank[part])


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(9, 5, dtype=torch.float64)


@pytest.fixture
def bank() -> torch.Tensor:
    return torch.randn(31, 5, dtype=torch.float64)


@pytest.mark.parametrize("elements", [1, 9 * 7, 1 << 22])
def test_the_steps_make_up_the_whole_product(rows, bank, elements, monkeypatch):
    monkeypatch.setattr(similarity, "_ELEMENTS", elements)
    parts = [values.clone() for _, values in products(rows, guides(bank), None)]
    assert len(parts) == {1: 31, 63: 5, 1 << 22: 1}[elements]
    assert torch.allclose(torch.cat(parts, dim=1), rows @ bank.T, atol=1e-14)


@pytest.mark.parametrize("elements", [1, 9 * 7, 1 << 22])
@pytest.mark.parametrize("k", [1, 4, 31])
def test_the_mean_of_the_largest_is_that_of_a_sort(rows, bank, k, elements, monkeypatch):
    monkeypatch.setattr(similarity, "_ELEMENTS", elements)
    largest = (rows @ bank.T).sort(dim=1, descending=True).values[:, :k]
    assert torch.allclose(top_mean(rows, guides(bank), k), largest.mean(dim=1), atol=1e-13)


def test_a_row_of_the_bank_is_left_out_for_itself_alone(bank):
    copies = Copies.of(torch.arange(len(bank)), torch.tensor([-1, 0, 30]))
    rows = bank[[5, 0, 30]]
    expected = rows @ bank.T
    expected[1, 0] = expected[2, 30] = -torch.inf
    largest = expected.max(dim=1).values
    assert torch.allclose(top_mean(rows, guides(bank), 1, copies), largest, atol=1e-14)
