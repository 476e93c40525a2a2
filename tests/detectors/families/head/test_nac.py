import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.detectors.statistics.activation import activation_states, state_cells
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees

UNITS, CLASSES = 64, 5


@pytest.mark.parametrize("options", [{"bins": 7}, {"r": 0.3}, {"steepness": 1.0}], ids=str)
def test_every_option_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "nac", **options)


def rectified(rows: int, centres: torch.Tensor, head, spread: float) -> Latents:
    """Features after ReLU of rows about the centres of classes."""
    noise = spread * torch.randn(rows, UNITS, dtype=torch.float64)
    features = (centres[torch.arange(rows) % len(centres)] + noise).clamp(min=0)
    return Latents(logits=features @ head[0].T, features={"penultimate": features}, head=head)


def test_units_in_new_states_score_higher():
    centres = torch.rand(CLASSES, UNITS, dtype=torch.float64)
    head = (0.3 * (centres - centres.mean(dim=0)), torch.zeros(CLASSES, dtype=torch.float64))
    train, known = (rectified(rows, centres, head, 0.1) for rows in (2000, 300))
    far = rectified(300, centres.flip(1), head, 0.1)
    fitted = fit(detector("nac", steepness=10.0), train)
    assert auroc(fitted.score(known), fitted.score(far)) > 0.95


def test_the_slope_is_that_of_the_divergence_from_uniform():
    h = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    logits = h @ weight.T + bias
    divergence = (-torch.log(torch.tensor(3.0)) - logits.log_softmax(dim=1)).mean(dim=1)
    (slope,) = torch.autograd.grad(divergence.sum(), h)
    states = activation_states(h.detach(), logits.detach(), weight, 2.0)
    assert torch.allclose(states, torch.sigmoid(2.0 * h.detach() * slope), atol=1e-14)


def test_states_fall_into_bins_of_equal_width():
    states = torch.tensor([[0.0, 0.25], [0.49, 0.5 - 1e-16], [0.99, 1.0]], dtype=torch.float64)
    assert (state_cells(states, 4) % 4).tolist() == [[0, 1], [1, 2], [3, 3]]
    assert (state_cells(states, 4) // 4).tolist() == [[0, 1]] * 3


def test_a_bin_is_covered_in_proportion_up_to_the_density_asked_for(blobs):
    """r·N/bins rows cover a bin: 240 rows, 50 bins and r = 2.5 make it 12."""
    fitted = fit(detector("nac"), blobs.train.latents())
    coverage = fitted.state["coverage"]
    assert coverage.shape == (16, 50)
    assert float(coverage.max()) == 1.0
    smallest = float(coverage[coverage > 0].min())
    assert smallest == pytest.approx(1 / 12)
    assert fitted.provenance["diagnostics"]["bins_in_use"] == float((coverage > 0).double().mean())
