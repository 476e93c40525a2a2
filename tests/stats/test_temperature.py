import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from latentood.stats import temperature
from latentood.stats.temperature import best_temperature, fit_at


@pytest.fixture
def sampled():
    """Logits whose labels are drawn from their softmax at temperature 2.5."""
    logits = 6 * torch.randn(3000, 7, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits / 2.5, dim=1), 1).squeeze(1)
    return logits, labels


def loss(logits: torch.Tensor, labels: torch.Tensor, t: float) -> float:
    return float(torch.nn.functional.cross_entropy(logits / t, labels))


def test_the_minimum_is_found_to_the_last_digits(sampled):
    best = best_temperature(*sampled)
    assert best == pytest.approx(2.5, rel=0.1)
    searched = minimize_scalar(lambda s: loss(*sampled, math.exp(s)), bracket=(0, 1, 2)).x
    assert best == pytest.approx(math.exp(searched), rel=1e-6)
    assert abs(fit_at(*sampled, 1 / best).slope) < 1e-12


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e5])
def test_the_unit_of_the_logits_does_not_matter(sampled, unit):
    logits, labels = sampled
    assert best_temperature(logits * unit, labels) == pytest.approx(
        unit * best_temperature(logits, labels), rel=1e-9
    )


def test_nearly_separable_labels_still_have_their_minimum():
    logits = torch.tensor([[9.0, 0.0]] * 5000 + [[0.1, 0.0]])
    labels = torch.tensor([0] * 5000 + [1])
    best = best_temperature(logits, labels)
    assert best < 1
    assert abs(fit_at(logits, labels, 1 / best).slope) < 1e-15


def test_derivatives_are_those_of_the_loss(sampled):
    step = 1e-4
    low, middle, high = (fit_at(*sampled, 0.4 + x) for x in (-step, 0.0, step))
    assert middle.loss == pytest.approx(loss(*sampled, 1 / 0.4), rel=1e-12)
    assert middle.slope == pytest.approx((high.loss - low.loss) / (2 * step), rel=1e-5)
    assert middle.curvature == pytest.approx((high.slope - low.slope) / (2 * step), rel=1e-5)


def test_steps_do_not_change_the_sums(sampled, monkeypatch):
    whole = fit_at(*sampled, 0.4)
    monkeypatch.setattr(temperature, "_ELEMENTS", 7 * 100)
    assert fit_at(*sampled, 0.4).loss == pytest.approx(whole.loss, rel=1e-13)


def test_the_slope_at_both_ends_says_whether_there_is_a_minimum():
    right, wrong = torch.tensor([[2.0, 1.0]]), torch.tensor([0, 1])
    assert fit_at(right, wrong[:1], math.inf).slope == 0  # always right: T → 0
    assert fit_at(right, wrong[1:], 0.0).slope > 0  # worse than chance: T → ∞
