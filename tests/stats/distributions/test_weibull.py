import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

from latentood.stats.distributions.weibull import fit_weibulls


@pytest.mark.parametrize("shape", [0.7, 3.0, 40.0])
def test_scipy_finds_the_same_parameters_and_no_better_ones(shape):
    tail = np.sort(weibull_min.rvs(shape, scale=5.0, size=20, random_state=3))
    fitted = fit_weibulls(torch.from_numpy(tail).unsqueeze(0))
    parameters = float(fitted.shape), float(fitted.log_scale.exp())
    c, _, scale = weibull_min.fit(tail, floc=0)
    assert parameters == pytest.approx((c, scale), rel=1e-3)

    def likelihood(c: float, scale: float) -> float:
        return weibull_min.logpdf(tail, c, scale=scale).sum()

    assert likelihood(*parameters) >= likelihood(c, scale) - 1e-12
    for factor in (0.999, 1.001):
        assert likelihood(*parameters) > likelihood(parameters[0] * factor, parameters[1])
        assert likelihood(*parameters) > likelihood(parameters[0], parameters[1] * factor)


def test_samples_are_fitted_each_by_itself_whatever_their_unit():
    tails = torch.rand(5, 20, dtype=torch.float64) + 0.5
    together = fit_weibulls(tails)
    scaled = fit_weibulls(tails * 1e6)
    for row in range(5):
        alone = fit_weibulls(tails[row : row + 1])
        torch.testing.assert_close(alone.shape[0], together.shape[row], rtol=1e-13, atol=0)
    torch.testing.assert_close(scaled.shape, together.shape, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        scaled.log_scale, together.log_scale + np.log(1e6), rtol=1e-12, atol=0
    )


def test_zeros_are_padding():
    tail = torch.rand(1, 7, dtype=torch.float64) + 1
    padded = torch.cat([tail, torch.zeros(1, 13, dtype=torch.float64)], dim=1)
    assert fit_weibulls(padded).shape == pytest.approx(fit_weibulls(tail).shape, rel=1e-13)


def test_samples_without_spread_have_no_distribution():
    empty, single, alike = torch.zeros(4), torch.tensor([3.0, 0, 0, 0]), torch.full((4,), 2.0)
    nearly = alike.double() * (1 + 1e-15 * torch.arange(4))
    fitted = fit_weibulls(torch.stack([empty.double(), single.double(), alike.double(), nearly]))
    assert fitted.shape.tolist() == [0.0] * 4
    assert bool(fitted.log_scale.isfinite().all())


def test_a_narrow_tail_far_from_zero_keeps_its_digits():
    tail = 1e4 + torch.rand(1, 20, dtype=torch.float64)
    fitted = fit_weibulls(tail)
    assert 1e4 < float(fitted.shape) < 1e5
    assert float(fitted.log_scale.exp()) == pytest.approx(1e4 + 0.6, rel=1e-4)
