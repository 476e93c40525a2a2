import pytest
import torch
from torch import nn

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction, SoftmaxHead
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES
from latentood.training.objectives.posterior import NaturalPosterior, Posterior
from tests.references import posterior_network
from tests.training.objectives.blobs import accuracy_and_auroc, blobs, far_rows, train

COUNTS = torch.tensor([50, 200, 10])
LABELS = torch.tensor([0, 2, 1, 1, 0])
OBJECTIVE = {"posterior": Posterior(), "natural_posterior": NaturalPosterior()}


def given(log_alpha: torch.Tensor) -> Prediction:
    return Prediction(log_alpha, log_alpha=log_alpha, log_density=log_alpha)


@pytest.mark.parametrize("weight", [0.0, 1e-5, 0.5])
def test_loss_equals_the_formula_of_the_paper(weight):
    log_alpha = 3 * torch.rand(5, 3, dtype=torch.float64)
    truth = posterior_network.bayesian_loss(log_alpha.exp().numpy(), LABELS.numpy(), weight)
    objective = Posterior(entropy_weight=weight)
    loss = objective.loss(given(log_alpha), LABELS, head=objective.head(3, 3, COUNTS))
    assert loss.item() == pytest.approx(truth, rel=1e-12)


def test_expected_cross_entropy_and_entropy_are_those_of_samples():
    alpha = torch.tensor([[4.0, 2.0, 7.0]], dtype=torch.float64)
    dirichlet = torch.distributions.Dirichlet(alpha[0])
    drawn = dirichlet.sample((200_000,))
    truth = -drawn[:, 1].log().mean() + 0.5 * dirichlet.log_prob(drawn).mean()
    objective = Posterior(entropy_weight=0.5)
    loss = objective.loss(given(alpha.log()), torch.tensor([1]), head=SoftmaxHead(3, 3))
    assert loss.item() == pytest.approx(truth.item(), abs=0.01)


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
def test_gradients_of_outputs_and_flows_are_those_of_the_loss(name):
    alone = {"likelihood_weight": 0.0} if name == "natural_posterior" else {}
    objective = OBJECTIVES.build(name, flow_length=2, entropy_weight=0.1, **alone)
    head = objective.head(2, 3, COUNTS).double().eval()
    names, parameters = zip(*head.named_parameters(), strict=True)
    output = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def loss(output: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        prediction = torch.func.functional_call(head, named, (output,))
        return objective.loss(prediction, LABELS, head=head)

    assert torch.autograd.gradcheck(loss, (output, *parameters))


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_gradients_reach_a_float32_network_and_are_finite(name, size):
    objective = OBJECTIVE[name]
    head = objective.head(4, 3, COUNTS).eval()
    output = torch.full((5, 4), size, requires_grad=True)
    loss = objective.loss(head(output), LABELS, head=head)
    loss.backward()
    assert loss.isfinite()
    assert output.grad.dtype == torch.float32
    assert output.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
def test_blobs_are_learnt_and_far_inputs_have_less_evidence(name):
    inputs, labels = blobs()
    encoder = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32))
    network = Network(encoder, OBJECTIVE[name], classes=3, width=32, counts=torch.bincount(labels))
    before, after = train(network, inputs, labels, steps=150, rate=1e-2)
    assert after < 0.2 * before
    accuracy, auroc = accuracy_and_auroc(network, inputs, labels)
    assert accuracy > 0.98
    assert auroc > 0.95


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
def test_alpha_is_one_far_from_the_rows_that_the_flows_were_trained_on(name):
    inputs, labels = blobs()
    network = Network(
        nn.Identity(), OBJECTIVE[name], classes=3, width=2, counts=torch.bincount(labels)
    )
    train(network, inputs, labels, steps=150, rate=2e-2)
    network.eval()
    strength = network(far_rows()).log_alpha.exp().sum(dim=1)
    assert (3 / strength).min() > 0.999
    assert (3 / network(inputs).log_alpha.exp().sum(dim=1)).median() < 0.3


def test_the_likelihood_of_the_flows_is_that_of_the_class_and_leaves_the_network_alone():
    head = NaturalPosterior().head(4, 3).double().eval()
    output = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    bayesian, both = (
        NaturalPosterior(likelihood_weight=w).loss(head(output), LABELS, head=head) for w in (0, 2)
    )
    density = head.flows(head.norm(output))
    mean = sum(density[row, label] for row, label in enumerate(LABELS)) / 5
    torch.testing.assert_close(bayesian - both, 2 * mean)
    shared = [output, *head.norm.parameters(), *head.likelihood.parameters()]
    gradients = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in (bayesian, both)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hollow", [True, False])
def test_flows_follow_classes_that_surround_an_empty_middle(hollow):
    """OOD inputs of a trained network lie between its classes."""
    angles = torch.arange(8) * (2 * torch.pi / 8)
    labels = torch.arange(400) % 8
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)[labels] + 0.05 * torch.randn(400, 2)
    objective = NaturalPosterior(likelihood_weight=1.0 if hollow else 0.0)
    network = Network(nn.Identity(), objective, classes=8, width=2)
    train(network, ring, labels, steps=60, rate=5e-3)
    uncertainty = network.predict(torch.cat([ring, 0.05 * torch.randn(50, 2)]))[1]
    assert (uncertainty[400:].min() > uncertainty[:400].max()) == hollow


def test_counts_must_be_known_for_a_budget_of_counts():
    with pytest.raises(ConfigError, match="counts must be known for budget: counts, got none"):
        Posterior().head(4, 3)
    assert Posterior(budget="normal").head(4, 3).log_budget.isfinite().all()
    with pytest.raises(ConfigError, match="got none of class 2"):
        Posterior().head(4, 3, torch.tensor([3, 4, 0]))


@pytest.mark.parametrize(
    ("prediction", "missing"),
    [
        (Prediction(torch.zeros(5, 3)), "log_alpha"),
        (Prediction(torch.zeros(5, 3), log_alpha=torch.zeros(5, 3)), "log_density"),
    ],
)
def test_predictions_without_a_density_are_refused(prediction, missing):
    with pytest.raises(ModelError, match=f"posterior: predictions must have {missing}"):
        Posterior().loss(prediction, LABELS, head=SoftmaxHead(3, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flow_length": 0}, "flow_length must be ≥ 1, got 0"),
        ({"latent": 0}, "latent must be ≥ 1, got 0"),
        ({"budget": "one"}, "budget must be one of"),
        ({"entropy_weight": -1.0}, "entropy_weight must be ≥ 0, got -1.0"),
    ],
)
def test_wrong_hyperparameters_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Posterior(**wrong)
