import math

import pytest
import torch
from torch.autograd import gradcheck

from latentood.errors import ConfigError
from latentood.training.objectives import OBJECTIVES
from latentood.training.objectives.prior import PriorNetwork
from tests.references import dirichlet_losses
from tests.training.objectives.planes import quality, trained

LOGITS = [[-1.0, 0.5, 2.0], [3.0, 2.9, 5.0], [-2.0, -0.3, 1.0]]
LABELS = [2, 0, 1]
OUTLIERS = [[0.5, -1.0, 4.0], [0.0, 0.0, 0.0]]
DIRECTIONS = ["reverse", "forward"]


def tensor(values, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def loss_of(objective: PriorNetwork, logits, labels=LABELS, outliers=None):
    head = objective.head(3, 3)
    others = head(tensor(OUTLIERS) if outliers is None else outliers)
    return objective.loss(head(logits), torch.tensor(labels), head=head, outliers=others)


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_loss_is_the_slow_formula(direction, epsilon):
    objective = PriorNetwork(direction=direction, beta=30.0, gamma=0.7, smoothing=epsilon)
    ours = loss_of(objective, tensor(LOGITS))
    expected = dirichlet_losses.prior(LOGITS, LABELS, OUTLIERS, direction, 30.0, 0.7, epsilon)
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_loss_is_zero_at_the_targets_and_there_alone(direction):
    objective = PriorNetwork(direction=direction)
    at = [[math.log(101.0) if k == label else 0.0 for k in range(3)] for label in LABELS]
    flat = tensor([[0.0, 0.0, 0.0]])
    assert abs(loss_of(objective, tensor(at), outliers=flat).item()) < 1e-12
    assert loss_of(objective, tensor(at) + 0.1, outliers=flat).item() > 1e-4
    assert loss_of(objective, tensor(at), outliers=flat + 0.1).item() > 1e-4


def test_the_directions_differ_in_which_distribution_is_predicted():
    """Reverse grows as 1/α where a class has none, forward as its logarithm."""
    gone, further = (tensor([[math.log(101.0), 0.0, low]] * 3) for low in (-5.0, -6.0))
    for direction, low, high in (("reverse", 200, 400), ("forward", 0.5, 2)):
        objective = PriorNetwork(direction=direction)
        labels = [0, 0, 0]
        gap = loss_of(objective, further, labels) - loss_of(objective, gone, labels)
        assert low < gap.item() < high


@pytest.mark.parametrize("smoothing", [0.0, 1 / 103])
def test_the_target_of_2019_is_a_smoothed_one_of_2018(smoothing):
    ours = loss_of(PriorNetwork(smoothing=smoothing), tensor(LOGITS))
    assert ours.item() == pytest.approx(loss_of(PriorNetwork(), tensor(LOGITS)).item(), rel=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_are_right_and_finite_for_logits_of_any_size(direction):
    objective = PriorNetwork(direction=direction)
    assert gradcheck(
        lambda z, other: loss_of(objective, z, outliers=other), (tensor(LOGITS), tensor(OUTLIERS))
    )
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]]
    extreme, others = tensor(rows, torch.float32), tensor(rows, torch.float32)
    loss = loss_of(objective, extreme, outliers=others)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(given.grad.isfinite().all()) for given in (extreme, others))
    assert float(extreme.grad[1, LABELS[1]]) < 0, "it leads out of where α is 0"
    assert float(others.grad[2].min()) > 0, "it leads out of where α is beyond the floats"


@pytest.mark.parametrize(
    "settings", [{}, {"direction": "forward", "gamma": 1.0}, {"smoothing": 0.02}]
)
def test_it_trains_and_its_mutual_information_separates_far_inputs(settings):
    accuracy, separation = quality(trained(PriorNetwork(**settings), bias=0.0))
    assert accuracy > 0.97
    assert separation > 0.99


def test_bad_settings_and_missing_outliers_are_named():
    with pytest.raises(ConfigError, match="objective prior: beta must be > 0"):
        OBJECTIVES.build("prior", beta=0.0)
    with pytest.raises(ConfigError, match=r"smoothing must be < 1/C, 0.1 for 10 classes, got 0.2"):
        PriorNetwork(smoothing=0.2).head(10, 10)
    objective = PriorNetwork()
    head = objective.head(3, 3)
    assert objective.reads_outliers
    with pytest.raises(ConfigError, match="needs predictions for OOD inputs, got none"):
        objective.loss(head(tensor(LOGITS)), torch.tensor(LABELS), head=head)
