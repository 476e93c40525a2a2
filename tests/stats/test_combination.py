import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, combine_pvalues

from latentood.stats.combination import brown_scale, chi2_surprise, log_p_values


def test_p_values_count_what_is_as_large_and_the_row_itself():
    reference = torch.tensor([[1.0], [2.0], [2.0], [5.0]], dtype=torch.float64)
    scores = torch.tensor([[0.0], [2.0], [3.0], [9.0]], dtype=torch.float64)
    ranks = log_p_values(scores, reference).exp().squeeze(1) * 5
    assert ranks.tolist() == pytest.approx([5, 4, 2, 1], rel=1e-14)


def test_rounding_does_not_break_a_tie():
    reference = torch.linspace(0, 1, 11, dtype=torch.float64).unsqueeze(1)
    off = log_p_values(reference * (1 + 4e-16) + 1e-16, reference)
    assert torch.equal(off, log_p_values(reference, reference))


@pytest.mark.parametrize("degrees", [2.0, 3.7, 6.0, 40.0])
def test_surprise_is_the_log_tail_of_chi_square(degrees):
    values = torch.linspace(1e-6, 300, 500, dtype=torch.float64)
    expected = torch.from_numpy(-chi2.logsf(values.numpy(), degrees))
    torch.testing.assert_close(chi2_surprise(values, degrees), expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("tests", [1, 3, 50])
def test_surprise_goes_on_where_the_tail_underflows(tests):
    values = torch.tensor([900.0, 1100.0, 1140.0, 1500.0, 5000.0, 1e5], dtype=torch.float64)
    half = values.numpy() / 2
    # For 2M degrees of freedom the tail is that of a Poisson sum: exp(−y)·Σ_{j<M} yʲ/j!
    logs = [[j * math.log(y) - math.lgamma(j + 1) for j in range(tests)] for y in half]
    expected = [y - np.logaddexp.reduce(row) for y, row in zip(half, logs, strict=True)]
    assert chi2_surprise(values, 2.0 * tests).tolist() == pytest.approx(expected, rel=1e-9)


def test_fisher_is_that_of_scipy():
    p = np.array([0.01, 0.2, 0.7])
    total = torch.tensor([-2 * np.log(p).sum()])
    ours = float(chi2_surprise(total.double(), 6.0).exp())
    assert 1 / ours == pytest.approx(combine_pvalues(p, method="fisher").pvalue, rel=1e-10)


def test_brown_takes_tests_that_repeat_each_other_for_one():
    log_p = torch.rand(200_000, 1, dtype=torch.float64).log()
    scale, degrees = brown_scale(log_p.expand(-1, 4))
    assert scale == pytest.approx(4, rel=0.02)  # X = 4·X₁, and X₁ has 2 degrees of freedom
    assert degrees == pytest.approx(2, rel=0.02)


def test_brown_leaves_independent_and_opposed_tests_to_fisher():
    p = torch.rand(200_000, 1, dtype=torch.float64)
    independent = torch.cat([p, torch.rand_like(p)], dim=1).log()
    assert brown_scale(independent) == pytest.approx((1, 4), rel=0.02)
    assert brown_scale(torch.cat([p, 1 - p], dim=1).log()) == (1, 4)


def test_brown_is_calibrated_where_fisher_is_not():
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    own = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    scores = common + 0.5 * own
    log_p = log_p_values(scores[10_000:], scores[:10_000].sort(dim=0).values)
    scale, degrees = brown_scale(log_p)
    total = -2 * log_p.sum(dim=1)
    cut = -math.log(0.05)
    assert float((chi2_surprise(total / scale, degrees) > cut).double().mean()) < 0.065
    assert float((chi2_surprise(total, 6.0) > cut).double().mean()) > 0.08
