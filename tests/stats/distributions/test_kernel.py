import math

import pytest
import torch

from latentood.stats.distributions import kernel
from latentood.stats.distributions.kernel import KernelDensity
from latentood.stats.neighbours.copies import Copies


def brute_force(bank: torch.Tensor, rows: torch.Tensor, bandwidth: float) -> list[float]:
    """Sum of kernels, one pair at a time, in logarithms."""
    width = bank.shape[1]
    answers = []
    for x in rows.double():
        logs = [-float((x - b).square().sum()) / (2 * bandwidth**2) for b in bank.double()]
        top = max(logs)
        total = top + math.log(sum(math.exp(value - top) for value in logs))
        norm = width * (0.5 * math.log(2 * math.pi) + math.log(bandwidth))
        answers.append(total - norm - math.log(len(logs)))
    return answers


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("width", [2, 64])
def test_the_density_is_the_brute_force_sum(bandwidth, width, monkeypatch):
    bank, rows = torch.randn(50, width), torch.randn(7, width)
    expected = torch.tensor(brute_force(bank, rows, bandwidth), dtype=torch.float64)
    for elements in (1 << 22, 7 * 8, 1):  # whole bank at once, in parts, row by row
        monkeypatch.setattr(kernel, "_ELEMENTS", elements)
        density = KernelDensity(bank, bandwidth).log_density(rows)
        torch.testing.assert_close(density, expected, rtol=1e-12, atol=1e-11)


def test_a_row_far_from_all_others_has_a_finite_density():
    density = KernelDensity(torch.zeros(3, 2), 1.0).log_density(torch.full((1, 2), 1e6))
    assert math.isclose(float(density[0]), -1e12, rel_tol=1e-9)


def test_a_row_does_not_count_towards_its_own_density():
    bank = torch.randn(20, 3)
    rows, own = bank[[4, 11]], Copies.of(torch.arange(len(bank)), torch.tensor([4, -1]))
    density = KernelDensity(bank, 1.0).log_density(rows, own)
    without = brute_force(bank[[i for i in range(20) if i != 4]], rows[:1], 1.0)
    expected = torch.tensor(without + brute_force(bank, rows[1:], 1.0), dtype=torch.float64)
    torch.testing.assert_close(density, expected, rtol=1e-12, atol=1e-12)


def test_an_offset_common_to_all_rows_changes_nothing():
    bank, rows = torch.randn(30, 4).double(), torch.randn(5, 4).double()
    near = KernelDensity(bank, 1.0).log_density(rows)
    far = KernelDensity(bank + 1e5, 1.0).log_density(rows + 1e5)
    torch.testing.assert_close(far, near, rtol=0, atol=1e-8)


def test_a_weighted_sum_of_kernels_is_in_logarithms_and_does_not_underflow():
    bank, rows = torch.randn(50, 3).double(), torch.randn(7, 3).double()
    weights = torch.rand(50).double() + 0.1
    kernels = KernelDensity(bank, 0.8, log_weights=weights.log())
    direct = (-torch.cdist(rows, bank).square() / (2 * 0.64)).exp() @ weights
    torch.testing.assert_close(kernels.log_sum(rows).exp(), direct, rtol=1e-12, atol=0)
    far = kernels.log_sum(rows + 100.0)
    assert bool(far.isfinite().all())
    assert bool((far < -1e4).all())


def test_weights_follow_their_rows_through_the_parts_of_a_bank(monkeypatch):
    bank, rows = torch.randn(50, 3), torch.randn(7, 3)
    kernels = KernelDensity(bank, 0.8, log_weights=torch.rand(50).double().log())
    whole = kernels.log_sum(rows)
    monkeypatch.setattr(kernel, "_ELEMENTS", 7 * 8)
    torch.testing.assert_close(kernels.log_sum(rows), whole, rtol=1e-13, atol=0)
