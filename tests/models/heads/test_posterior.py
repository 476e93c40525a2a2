import pytest
import torch

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import HEADS, NaturalPosteriorHead, PosteriorHead, Prediction
from latentood.models.heads.attached import build_head, describe

COUNTS = torch.tensor([50, 200, 10])


def made(name: str, width: int = 4) -> torch.nn.Module:
    counts = {"counts": COUNTS} if name == "posterior" else {}
    return HEADS[name](width, 3, **counts).eval()


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
@pytest.mark.parametrize("width", [2, 3, 64])
def test_output_may_have_any_width(name, width):
    prediction = made(name, width)(torch.randn(5, width))
    for values in (prediction.logits, prediction.log_alpha, prediction.log_density):
        assert values.shape == (5, 3)
        assert values.dtype == torch.float64
        assert values.isfinite().all()


def test_alpha_is_one_plus_counts_times_a_density():
    prediction = made("posterior")(torch.randn(6, 4))
    expected = 1 + COUNTS * prediction.log_density.exp()
    torch.testing.assert_close(prediction.log_alpha.exp(), expected)
    torch.testing.assert_close(prediction.probability, expected / expected.sum(dim=1, keepdim=True))


def test_what_is_called_a_density_integrates_to_one_for_each_class():
    head = made("posterior", width=2)
    axis = torch.linspace(-10, 10, 201)
    density = head(torch.cartesian_prod(axis, axis)).log_density.exp()
    mass = density.sum(dim=0) * 0.1**2
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), rtol=1e-3, atol=0)


def test_the_one_density_of_natpn_is_shared_out_by_class_probabilities():
    head = made("natural_posterior", width=2)
    axis = torch.linspace(-10, 10, 201)
    joint = head(torch.cartesian_prod(axis, axis)).log_density
    assert joint.exp().sum().item() * 0.1**2 == pytest.approx(1, rel=1e-3)


def test_natpn_updates_the_prior_by_pseudo_counts():
    """eq. of sec. 3: χ_post = (n₀χ₀ + nχ)/(n₀ + n), n_post = n₀ + n, with χ₀ = 1/C and n₀ = C."""
    head, output = made("natural_posterior"), torch.randn(6, 4)
    prediction = head(output)
    latent = head.norm(output)
    chi = head.likelihood(latent).double().softmax(dim=1)
    n = (4 * torch.pi) ** (0.5 * 4) * head.flows(latent).exp().mean(dim=1, keepdim=True)
    posterior = (3 * (1 / 3) + n * chi) / (3 + n)
    torch.testing.assert_close(prediction.probability, posterior)
    torch.testing.assert_close(prediction.log_alpha.exp().sum(dim=1, keepdim=True), 3 + n)


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_far_outputs_have_no_evidence_and_finite_gradients(name, size):
    output = torch.full((2, 4), size, requires_grad=True)
    head = made(name)
    prediction = head(output)
    (prediction.log_alpha.sum() + head.uncertainty(prediction).sum()).backward()
    assert prediction.log_density.isfinite().all()
    assert prediction.log_alpha.eq(0).all()  # α = 1: vacuity is 1
    assert output.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
def test_uncertainty_ranks_as_vacuity_and_goes_on_where_that_is_one(name):
    head = made(name)
    output = torch.linspace(0, 6, 40).unsqueeze(1).repeat(1, 4)
    prediction = head(output)
    strength = prediction.log_alpha.exp().sum(dim=1)
    ours = head.uncertainty(prediction)
    torch.testing.assert_close((-ours).exp(), strength - 3, rtol=1e-6, atol=1e-14)
    far = head.uncertainty(head(torch.tensor([[1e3] * 4, [2e3] * 4])))
    assert far[0] < far[1]


def test_evidence_beyond_the_floats_stays_finite_in_logarithms():
    head, output = made("posterior"), torch.randn(2, 4, requires_grad=True)
    head.log_budget.fill_(5000.0)
    log_alpha = head(output).log_alpha
    log_alpha.sum().backward()
    torch.testing.assert_close(log_alpha, 5000 + head(output).log_density)
    assert output.grad.isfinite().all()


def test_budgets_are_the_counts_or_that_of_natpn():
    torch.testing.assert_close(made("posterior").log_budget.exp(), COUNTS.double())
    normal = PosteriorHead(4, 3, budget="normal").log_budget
    torch.testing.assert_close(normal.exp(), torch.full((3,), (4 * torch.pi) ** 2).double())


@pytest.mark.parametrize("name", ["posterior", "natural_posterior"])
def test_a_head_comes_back_from_its_description_and_its_tensors(name):
    head, output = made(name, width=20), torch.randn(5, 20)
    again = build_head(describe(head), HEADS)
    again.load_state_dict(head.state_dict())
    assert again.eval()(output).log_alpha.equal(head(output).log_alpha)


def test_a_head_without_counts_gives_no_numbers():
    assert PosteriorHead(4, 3).eval()(torch.randn(2, 4)).log_alpha.isnan().all()


def test_a_batch_of_one_row_trains():
    head = PosteriorHead(4, 3, counts=COUNTS).train()
    head(torch.randn(1, 4)).log_alpha.sum().backward()
    assert head.norm.running_mean.eq(0).all()


def test_float32_flows_compute_in_float64():
    flows, rows = PosteriorHead(4, 3, counts=COUNTS).flows, torch.randn(20, 4)
    density = flows(rows)
    assert density.equal(flows.double()(rows.double()))


def test_flows_of_classes_and_transforms_all_differ():
    head = PosteriorHead(4, 3, counts=COUNTS)
    for parameter in head.flows.parameters():
        assert len(parameter.flatten().unique()) == parameter.numel()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PosteriorHead(4, 3, counts=torch.tensor([5, 0, 3])), "got none of class 1"),
        (lambda: PosteriorHead(4, 3, counts=torch.tensor([5, 3])), r"counts must be \(3,\)"),
        (lambda: PosteriorHead(4, 3, budget="one"), "budget must be one of"),
        (lambda: PosteriorHead(4, 3, flow_length=0), "flow_length must be ≥ 1, got 0"),
        (lambda: PosteriorHead(4, 3, latent=0), "latent must be ≥ 1, got 0"),
        (
            lambda: PosteriorHead(20, 3, latent=20, counts=COUNTS),
            "few dimensions, got 20, where a row has evidence of about exp.-23.",
        ),
        (lambda: NaturalPosteriorHead(4, 3, flow_length=0), "flow_length must be ≥ 1, got 0"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_uncertainty_of_another_heads_prediction_is_refused():
    with pytest.raises(ModelError, match="predictions must have log_density"):
        PosteriorHead(4, 3).uncertainty(Prediction(torch.zeros(1, 3)))
