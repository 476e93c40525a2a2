import math

import mpmath
import pytest
import torch
from scipy.stats import dirichlet
from torch.autograd import gradcheck
from torch.distributions import Dirichlet as TorchDirichlet
from torch.distributions import kl_divergence as torch_divergence

from latentood.stats.distributions.dirichlet import (
    Dirichlet,
    digamma,
    digamma_excess,
    gamma_entropy,
    kl_divergence,
    log_gamma_entropy,
    log_gamma_excess,
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
        (log_gamma_entropy, lambda a: a + mpmath.loggamma(a) - a * mpmath.digamma(a)),
        (log_gamma_excess, lambda a: mpmath.loggamma(a) - a * mpmath.log(a) + a),
    ],
    ids=["gamma_entropy", "digamma", "digamma_excess", "log_gamma_entropy", "log_gamma_excess"],
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


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_divergence_is_that_of_torch(scale):
    a, b = (random_dirichlets(scale) - 0.999 * (scale < 1) for scale in (scale, 3 * scale))
    ours = kl_divergence(Dirichlet(a.log()), Dirichlet(b.flip(0).log()))
    expected = torch_divergence(TorchDirichlet(a), TorchDirichlet(b.flip(0)))
    assert torch.allclose(ours, expected, rtol=1e-11, atol=1e-11)


def test_divergence_is_what_sampling_finds():
    torch.manual_seed(0)
    pairs = [([1.0, 1.0, 1.0], [4.0, 1.0, 2.5]), ([60.0, 30.0, 1.0], [1.0, 1.0, 1.0]),
             ([0.5, 2.0, 0.7], [101.0, 1.0, 1.0])]  # fmt: skip
    for alpha, beta in pairs:
        p, q = (TorchDirichlet(torch.tensor(x, dtype=torch.float64)) for x in (alpha, beta))
        drawn = p.sample((100_000,))
        ratio = p.log_prob(drawn) - q.log_prob(drawn)
        spread = float(ratio.std()) / 100_000**0.5
        of = [Dirichlet(x.concentration.log().unsqueeze(0)) for x in (p, q)]
        assert abs(float(kl_divergence(*of)) - float(ratio.mean())) < 6 * spread


def test_divergence_keeps_its_digits_where_the_textbook_formula_has_none_left():
    """The narrow distribution is the first: this is what a prior network minimises."""
    log_alpha = torch.tensor([[32.0, 33.1, 32.7]], dtype=torch.float64)
    beta = torch.tensor([[101.0, 1.0, 1.0]], dtype=torch.float64)
    with mpmath.workdps(60):
        a = [mpmath.exp(mpmath.mpf(float(x))) for x in log_alpha[0]]
        b = [mpmath.mpf(float(x)) for x in beta[0]]
        total = mpmath.loggamma(sum(a)) - mpmath.loggamma(sum(b))
        for x, y in zip(a, b, strict=True):
            total += mpmath.loggamma(y) - mpmath.loggamma(x)
            total += (x - y) * (mpmath.digamma(x) - mpmath.digamma(sum(a)))
        expected = float(total)
    textbook = torch_divergence(TorchDirichlet(log_alpha.exp()), TorchDirichlet(beta))
    assert abs(float(textbook) - expected) > 0.1
    ours = kl_divergence(Dirichlet(log_alpha), Dirichlet(beta.log()))
    assert float(ours) == pytest.approx(expected, abs=1e-9)


def test_divergence_of_equal_distributions_is_zero():
    log_alpha = torch.tensor([[-5.0, 0.0, 30.0], [300.0, 300.0, 299.0]], dtype=torch.float64)
    assert kl_divergence(Dirichlet(log_alpha[:1]), Dirichlet(log_alpha[:1])).abs().max() < 1e-9
    assert kl_divergence(Dirichlet(log_alpha), Dirichlet(0 * log_alpha)).isfinite().all()


QUANTITIES = {
    "entropy": Dirichlet.entropy,
    "mutual_information": Dirichlet.mutual_information,
    "expected_entropy": Dirichlet.expected_entropy,
    "vacuity": Dirichlet.vacuity,
    "expected_cross_entropy": lambda d: d.expected_cross_entropy(torch.zeros(len(d.mean)).long()),
    "to the flat one": lambda d: kl_divergence(d, Dirichlet(torch.zeros_like(d.log_alpha))),
    "from the flat one": lambda d: kl_divergence(Dirichlet(torch.zeros_like(d.log_alpha)), d),
}


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES)
def test_gradients_are_those_of_finite_differences(quantity):
    """Concentrations below 1, and on both sides of 64, where the series begin."""
    log_alpha = torch.tensor([[-1.0, 0.5, 3.0], [2.0, 4.1, 4.3], [0.1, 6.0, 5.0]])
    given = log_alpha.double().requires_grad_()
    assert gradcheck(lambda x: quantity(Dirichlet(x)), given)


@pytest.mark.parametrize("quantity", list(QUANTITIES)[:-1])
def test_gradients_are_finite_where_concentrations_are_beyond_the_floats(quantity):
    rows = [[1e4, 0.0, 0.0], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [1e4, 9e3, 4.1588830833596715]]
    given = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    QUANTITIES[quantity](Dirichlet(given)).sum().backward()
    assert bool(given.grad.isfinite().all())


@pytest.mark.parametrize("quantity", ["mutual_information", "expected_entropy"])
def test_gradients_are_finite_where_concentrations_are_next_to_zero(quantity):
    rows = [[-1e4, 0.0, 0.0], [-1e4, -1e4, -1e4], [-1e4, 1e4, 0.0]]
    given = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    QUANTITIES[quantity](Dirichlet(given)).sum().backward()
    assert bool(given.grad.isfinite().all())
