import pytest
import torch
from torch import nn

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction, SoftmaxHead
from latentood.training.network import Network
from latentood.training.objectives.prototypes import Prototypes
from tests.references import prototype_network
from tests.training.objectives.blobs import accuracy_and_auroc, blobs, train

LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_loss_equals_the_formula_of_the_paper(k, weight):
    objective = Prototypes(prototypes=k, gamma=0.6, prototype_weight=weight)
    head, output = objective.head(4, 3), torch.randn(5, 4)
    prototypes = head.prototypes.detach().double().numpy().reshape(3, k, 4)
    truth = prototype_network.loss(output.double().numpy(), LABELS.numpy(), prototypes, 0.6, weight)
    loss = objective.loss(head(output), LABELS, head=head)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("k", [1, 2])
def test_gradients_of_outputs_and_prototypes_are_those_of_the_loss(k):
    objective = Prototypes(prototypes=k, prototype_weight=0.4)
    head = objective.head(4, 3).double()
    output = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def loss(output: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
        prediction = torch.func.functional_call(head, {"prototypes": prototypes}, (output,))
        return objective.loss(prediction, LABELS, head=head)

    assert torch.autograd.gradcheck(loss, (output, head.prototypes))


@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_gradients_reach_a_float32_network_and_are_finite(size):
    objective = Prototypes(prototypes=2)
    head = objective.head(4, 3)
    output = torch.full((5, 4), size, requires_grad=True)
    loss = objective.loss(head(output), LABELS, head=head)
    loss.backward()
    assert loss.isfinite()
    assert output.grad.dtype == torch.float32
    assert output.grad.isfinite().all()
    assert head.prototypes.grad.isfinite().all()


@pytest.mark.parametrize("k", [1, 3])
def test_blobs_are_learnt_and_far_inputs_are_far_from_all_prototypes(k):
    inputs, labels = blobs()
    encoder = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 7))
    network = Network(encoder, Prototypes(prototypes=k), classes=3, width=7)
    before, after = train(network, inputs, labels, steps=200, rate=1e-2)
    assert after < 0.2 * before
    accuracy, auroc = accuracy_and_auroc(network, inputs, labels)
    assert accuracy > 0.98
    assert auroc > 0.95


def test_the_prototype_loss_draws_outputs_to_their_prototypes():
    inputs, labels = blobs()
    medians = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        objective = Prototypes(prototype_weight=weight)
        network = Network(nn.Linear(2, 4), objective, classes=3, width=4)
        train(network, inputs, labels, steps=100, rate=2e-2)
        medians.append(network.predict(inputs)[1].median())
    assert medians[1] < 0.5 * medians[0]


def test_predictions_without_distances_are_refused():
    with pytest.raises(ModelError, match="prototypes: predictions must have distances"):
        Prototypes().loss(Prediction(torch.zeros(5, 3)), LABELS, head=SoftmaxHead(3, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prototypes": 0}, "prototypes must be ≥ 1, got 0"),
        ({"gamma": 0.0}, "gamma must be > 0, got 0.0"),
        ({"prototype_weight": -1.0}, "prototype_weight must be ≥ 0, got -1.0"),
    ],
)
def test_wrong_hyperparameters_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Prototypes(**wrong)
