import math

import mpmath
import pytest
import torch
from scipy.stats import dirichlet

from latentood.stats.distributions.dirichlet import (
    Dirichlet,
    digamma,
    digamma_excess,
    gamma_entropy,
)

LOG_SHAPES = torch.linspace(0, 40, 401, dtype=torch.float64)  # a from 1 to 2e17


def exact(function, log_values=LOG_SHAPES) -> torch.Tensor:
    """A function of a, to 60 digits before it is rounded."""
    with mpmath.workdps(60):
        values = [float(function(mpmath.exp(mpmath.mpf(float(x))))) for x in log_values]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "truth"),
    [
        (
            gamma_entropy,
            lambda a: a + mpmath.loggamma(a) + (1 - a) * mpmath.digamma(a),
        ),
        (digamma, mpmath.digamma),
        (digamma_excess, lambda a: mpmath.digamma(a + 1) - mpmath.log(a)),
    ],
    ids=["gamma_entropy", "digamma", "digamma_excess"],
)
def test_special_functions_are_exact_from_one_to_the_end_of_the_floats(ours, truth):
    expected = exact(truth)
    error = (ours(LOG_SHAPES) - expected).abs() / expected.abs()
    near_zero = expected.abs() < 0.1  # ψ crosses 0 between 1 and 2, and loses digits there
    assert error[~near_zero | (LOG_SHAPES > 1)].max() < 1e-12
    large = math.log(64)
    assert error[large <= LOG_SHAPES].max() < 2e-15


def random_dirichlets(scale: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return 1 + scale * torch.rand(50, 6, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_entropy_is_that_of_scipy(scale):
    alpha = random_dirichlets(scale)
    expected = torch.tensor([dirichlet(a).entropy() for a in alpha.numpy()])
    assert torch.allclose(Dirichlet(alpha.log()).entropy(), expected, rtol=0, atol=1e-9)


def test_entropy_keeps_its_digits_where_the_textbook_formula_has_none_left():
    alpha = torch.tensor([[1e14, 3e14, 2e14]], dtype=torch.float64)
    with mpmath.workdps(60):
        a = [mpmath.mpf(float(x)) for x in alpha[0]]
        s = sum(a)
        log_beta = sum(map(mpmath.loggamma, a)) - mpmath.loggamma(s)
        rest = sum((x - 1) * mpmath.digamma(x) for x in a)
        expected = float(log_beta + (s - 3) * mpmath.digamma(s) - rest)
    textbook = dirichlet(alpha[0].numpy()).entropy()
    assert abs(textbook - expected) > 0.1
    assert float(Dirichlet(alpha.log()).entropy()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_flat_distribution_has_the_largest_entropy(classes):
    flat = Dirichlet(torch.zeros(1, classes, dtype=torch.float64))
    assert float(flat.entropy()) == pytest.approx(-math.lgamma(classes), rel=1e-12)
    assert float(flat.entropy()) > float(Dirichlet(flat.log_alpha + 0.1).entropy())


def test_mutual_information_is_what_sampling_finds():
    """H(mean of sampled p) − mean of H(p), over 200,000 draws of p from each distribution."""
    torch.manual_seed(0)
    for alpha in ([1.0, 1.0, 1.0], [4.0, 1.0, 2.5], [60.0, 30.0, 1.0]):
        log_alpha = torch.tensor([alpha], dtype=torch.float64).log()
        drawn = torch.distributions.Dirichlet(log_alpha[0].exp()).sample((200_000,))
        inner = torch.special.entr(drawn).sum(dim=1)
        sampled = torch.special.entr(drawn.mean(dim=0)).sum() - inner.mean()
        spread = float(inner.std()) / 200_000**0.5
        information = float(Dirichlet(log_alpha).mutual_information())
        assert abs(information - float(sampled)) < 6 * spread


def test_concentrations_beyond_the_floats_stay_finite():
    """Mutual information is then (C−1)/(2S), the limit of many counts; entropy falls with log S."""
    log_alpha = torch.tensor([[800.0, 799.0, 0.0], [1e5, 1e5, 1e5]], dtype=torch.float64)
    given = Dirichlet(log_alpha)
    assert bool(given.entropy().isfinite().all())
    assert given.mutual_information().tolist() == [0.0, 0.0]
    large = Dirichlet(torch.full((1, 4), 50.0, dtype=torch.float64))
    limit = 3 / (2 * 4 * math.exp(50.0))
    assert float(large.mutual_information()) == pytest.approx(limit, rel=1e-9)


def test_one_class_leaves_nothing_open():
    assert float(Dirichlet(torch.tensor([[2.0]], dtype=torch.float64)).mutual_information()) == 0
