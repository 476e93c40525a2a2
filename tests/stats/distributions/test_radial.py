import pytest
import torch

from latentood.stats.distributions.radial import radial_log_density
from tests.references import posterior_network


def flows(length: int, count: int, width: int, spread: float = 1.0) -> list[torch.Tensor]:
    """Parameters of random flows, expanding and contracting ones."""
    centres = spread * torch.randn(length, count, width, dtype=torch.float64)
    alpha, gamma = torch.rand(2, length, count, dtype=torch.float64) * 3 + 0.5
    return [centres, alpha, gamma]


@pytest.mark.parametrize("width", [1, 2, 7])
def test_densities_equal_the_formula_of_the_paper(width):
    rows, parameters = 2 * torch.randn(20, width, dtype=torch.float64), flows(6, 3, width)
    truth = posterior_network.radial_log_density(*(t.numpy() for t in (rows, *parameters)))
    result = radial_log_density(rows, *parameters)
    torch.testing.assert_close(result, torch.from_numpy(truth), rtol=1e-11, atol=1e-11)


def test_densities_integrate_to_one():
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = radial_log_density(grid, *flows(5, 4, 2)).exp().sum(dim=0) * 0.1**2
    torch.testing.assert_close(mass, torch.ones(4, dtype=torch.float64), rtol=1e-3, atol=0)


def test_equal_parameters_leave_a_standard_gaussian():
    rows, (centres, alpha, _) = torch.randn(5, 3, dtype=torch.float64), flows(4, 2, 3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(rows).sum(dim=1, keepdim=True)
    torch.testing.assert_close(radial_log_density(rows, centres, alpha, alpha), normal.repeat(1, 2))


def test_gradients_are_those_of_the_density():
    rows, parameters = torch.randn(4, 3, dtype=torch.float64), flows(3, 2, 3)
    inputs = [tensor.requires_grad_() for tensor in (rows, *parameters)]
    assert torch.autograd.gradcheck(radial_log_density, inputs)


@pytest.mark.parametrize("place", [0.0, 1e4, -1e4, 1e8])
def test_density_and_gradient_are_finite_far_away(place):
    rows = torch.full((2, 8), place, dtype=torch.float64, requires_grad=True)
    density = radial_log_density(rows, *flows(8, 3, 8))
    density.sum().backward()
    assert density.isfinite().all()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_density_and_gradient_are_finite_at_a_centre():
    centres, alpha, gamma = flows(3, 2, 4)
    centres[:] = torch.tensor([1.0, 2.0, 0.0, -1.0])  # whose squared distance is exactly 0
    rows = centres[0].clone().requires_grad_()
    density = radial_log_density(rows, centres, alpha, gamma)
    density.sum().backward()
    assert density.isfinite().all()
    assert rows.grad.isfinite().all()


def test_memory_does_not_hold_every_row_for_every_flow():
    """(N, F, H) float64 would take 820 MB; no tensor that is kept for the gradients is so large."""
    sizes = []
    rows = torch.zeros(100, 1024, dtype=torch.float64, requires_grad=True)

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        radial_log_density(rows, *flows(2, 1000, 1024))
    assert max(sizes) <= 2 * 1000 * 1024  # the centres
