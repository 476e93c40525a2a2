import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from latentood.stats.distributions.mixture import (
    mixture_log_density,
    precision_factors,
    spread_rank,
)


def covariances(count: int, width: int) -> torch.Tensor:
    roots = torch.randn(count, width, 2 * width, dtype=torch.float64)
    return roots @ roots.mT


def log_density(rows, weights, means, covs) -> torch.Tensor:
    parts = [
        float(w) * multivariate_normal(m.numpy(), c.numpy()).pdf(rows.numpy())
        for w, m, c in zip(weights, means, covs, strict=True)
    ]
    return torch.from_numpy(np.log(sum(parts)))


@pytest.mark.parametrize("kind", ["full", "tied", "diagonal"])
def test_the_density_is_the_weighted_sum_of_normal_ones(kind):
    rows, means = torch.randn(9, 4).double(), torch.randn(3, 4).double()
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    covs = covariances(1 if kind == "tied" else 3, 4)
    factors = precision_factors(covs, 0.0)
    if kind == "diagonal":
        covs = torch.diag_embed(covs.diagonal(dim1=1, dim2=2))
        factors = covs.diagonal(dim1=1, dim2=2).rsqrt()
    density = mixture_log_density(rows, weights.log(), means, factors)
    expected = log_density(rows, weights, means, covs.expand(3, 4, 4))
    torch.testing.assert_close(density, expected, rtol=1e-11, atol=1e-11)


def test_a_row_far_from_all_components_has_a_finite_density():
    means, factors = torch.zeros(2, 3).double(), torch.eye(3).double().expand(2, 3, 3)
    rows = torch.full((1, 3), 1e6, dtype=torch.float64)
    density = mixture_log_density(rows, torch.zeros(2).double(), means, factors)
    torch.testing.assert_close(
        density, torch.tensor([-1.5e12], dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_factors_are_triangular_and_invert_the_covariance_with_its_jitter():
    covs = covariances(3, 5)
    factors = precision_factors(covs, 0.7)
    assert torch.equal(factors, factors.triu())
    inverse = torch.linalg.inv(covs + 0.7 * torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(factors @ factors.mT, inverse, rtol=1e-9, atol=1e-12)


def test_a_singular_covariance_is_never_factored_by_luck_of_rounding():
    lucky = 0
    for _ in range(50):
        rows = torch.randn(6, 8, dtype=torch.float64)
        singular = (rows.T @ rows).unsqueeze(0)
        lucky += int(torch.linalg.cholesky_ex(singular).info) == 0
        assert precision_factors(singular, 0.0) is None
    assert lucky > 0, "every one failed anyway: this shows nothing"
    assert precision_factors(singular, 1e-6) is not None


def test_rank_counts_spread_beyond_rounding_and_ridge():
    rows = torch.randn(6, 8, dtype=torch.float64)
    covariance = rows.T @ rows
    assert spread_rank(covariance) == 6
    assert spread_rank(covariance + 0.5 * torch.eye(8).double(), ridge=0.5) == 6
