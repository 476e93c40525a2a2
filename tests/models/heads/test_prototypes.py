import pytest
import torch

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import HEADS, Prediction, PrototypeHead
from latentood.models.heads.attached import build_head, describe
from latentood.models.heads.prototypes import squared_distances
from tests.references import prototype_network


def test_distances_equal_differences_squared():
    rows, centres = torch.randn(9, 5), torch.randn(4, 5)
    truth = (rows.double().unsqueeze(1) - centres.double()).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(rows, centres), truth, rtol=1e-12, atol=1e-12)


def test_distances_far_from_the_origin_keep_their_digits_and_are_never_negative():
    centres = 1e4 + torch.randn(6, 64)
    rows = torch.cat([centres, centres + 1e-2 * torch.randn(6, 64)])
    truth = (rows.double().unsqueeze(1) - centres.double()).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(rows, centres), truth, rtol=1e-9, atol=1e-5)
    same = 1e4 + torch.randn(50, 64, dtype=torch.float64)
    assert (squared_distances(same, same) >= 0).all()


def test_distances_keep_no_array_of_rows_by_centres_by_width():
    sizes = []
    rows = torch.zeros(100, 64, requires_grad=True)

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        squared_distances(rows, torch.randn(50, 64))
    assert max(sizes) < 100 * 50 * 64


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("width", [2, 3, 7])
def test_probabilities_equal_the_formula_of_the_paper(k, width):
    head = PrototypeHead(width, 3, prototypes=k, gamma=0.7)
    output = torch.randn(8, width)
    prediction = head(output)
    prototypes = head.prototypes.detach().double().numpy().reshape(3, k, width)
    rows = output.double().numpy()
    truth = [prototype_network.probabilities(row, prototypes, 0.7) for row in rows]
    torch.testing.assert_close(prediction.probability, torch.tensor(truth).double())
    nearest = [
        [min(prototype_network.squared(row, m) for m in own) for own in prototypes] for row in rows
    ]
    torch.testing.assert_close(prediction.distance, torch.tensor(nearest).double())
    torch.testing.assert_close(
        head.uncertainty(prediction), torch.tensor(nearest).double().amin(dim=1)
    )


def test_one_prototype_gives_minus_gamma_times_distance():
    prediction = PrototypeHead(4, 3, gamma=2.0)(torch.randn(5, 4))
    torch.testing.assert_close(prediction.logits, -2 * prediction.distance)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_far_outputs_have_finite_logits_and_gradients(size):
    output = torch.full((2, 4), size, requires_grad=True)
    head = PrototypeHead(4, 3, prototypes=2)
    prediction = head(output)
    prediction.logits.log_softmax(dim=1).sum().backward()
    assert prediction.logits.isfinite().all()
    assert output.grad.isfinite().all()
    assert head.prototypes.grad.isfinite().all()


def test_prototypes_of_a_class_start_apart_and_get_gradients_of_their_own():
    head = PrototypeHead(8, 2, prototypes=3)
    head(torch.randn(5, 8)).logits[:, 0].sum().backward()
    assert len(head.prototypes.grad[:3].unique(dim=0)) == 3


@pytest.mark.parametrize("width", [4, 512])
@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_prototypes_start_so_far_apart_that_each_has_its_own_class(width, gamma):
    lengths = PrototypeHead(width, 500, gamma=gamma).prototypes.square().sum(dim=1)
    assert gamma * lengths.mean().item() == pytest.approx(9, rel=0.1)
    head = PrototypeHead(512, 500, gamma=gamma)
    own = head(head.prototypes).probability.diagonal()
    assert own.min() > 0.99


def test_a_head_comes_back_from_its_description_and_its_tensors():
    head, output = PrototypeHead(5, 3, prototypes=2, gamma=0.3), torch.randn(4, 5)
    again = build_head(describe(head), HEADS)
    again.load_state_dict(head.state_dict())
    assert again(output).logits.equal(head(output).logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrototypeHead(4, 3, prototypes=0), "prototypes must be ≥ 1, got 0"),
        (lambda: PrototypeHead(4, 3, gamma=0.0), "gamma must be > 0, got 0.0"),
        (lambda: PrototypeHead(4, 3, gamma=float("nan")), "gamma must be > 0, got nan"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_uncertainty_of_another_heads_prediction_is_refused():
    with pytest.raises(ModelError, match="predictions must have distances"):
        PrototypeHead(4, 3).uncertainty(Prediction(torch.zeros(1, 3)))
