import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees

HEADS = ("fdbd", "nci", "pnml", "nac")


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_every_weight_of_the_length_agrees_with_the_slow_formula(blobs, alpha):
    assert_agrees(blobs, "nci", alpha=alpha)


def test_features_of_any_layer_have_a_norm(blobs):
    assert_agrees(blobs, "feature_norm", layer="gram")


def test_gradnorm_is_the_norm_of_the_gradient_that_autograd_finds(blobs):
    weight, bias = (t.clone() for t in blobs.far.head)
    weight.requires_grad_()
    expected = []
    for x in blobs.far.features[:10]:
        loss = -(x @ weight.T + bias).log_softmax(dim=0).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        expected.append(-gradient.abs().sum())
    scores = fit(detector("gradnorm"), blobs.train.latents()).score(blobs.far.latents())
    assert torch.allclose(scores[:10], torch.stack(expected), rtol=1e-12)


def test_a_uniform_prediction_has_no_gradient():
    rows = Latents(logits=torch.ones(1, 4), features={"penultimate": torch.ones(1, 3)})
    assert float(fit(detector("gradnorm"), rows).score(rows)) == 0.0


@pytest.mark.parametrize("name", ["gradnorm", "feature_norm"])
def test_shorter_features_score_higher(blobs, name):
    train = blobs.train.latents()
    weak = Latents(logits=blobs.far.logits, features={"penultimate": 0.6 * blobs.far.features})
    fitted = fit(detector(name), train)
    assert auroc(fitted.score(blobs.id.latents()), fitted.score(weak)) > 0.9


@pytest.mark.parametrize("name", ["fdbd", "nci"])
def test_a_row_at_the_mean_gets_a_number(blobs, name):
    train = blobs.train.latents()
    middle = blobs.train.features.mean(dim=0, keepdim=True)
    weight, bias = blobs.train.head
    rows = Latents(logits=middle @ weight.T + bias, features={"penultimate": middle})
    assert bool(fit(detector(name), train).score(rows).isfinite().all())


def test_boundaries_between_near_equal_weights_keep_their_digits():
    weight = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-9]], dtype=torch.float64)
    features = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
    rows = Latents(
        logits=features @ weight.T,
        features={"penultimate": features},
        head=(weight, torch.zeros(2)),
    )
    gaps = fit(detector("fdbd"), rows).state["gaps"]
    assert float(gaps[0, 1]) == pytest.approx(float(weight[1, 1] - 1), rel=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_another_layer_is_refused(blobs, name):
    train = Latents(
        logits=blobs.train.logits,
        labels=blobs.train.labels,
        features={"penultimate": blobs.train.features},
        head=(torch.zeros(4, 7), torch.zeros(4)),
    )
    with pytest.raises(DetectorError) as caught:
        fit(detector(name), train)
    assert str(caught.value) == (
        f"{name}: the head must read the 16 features of features/penultimate, got a weight of "
        "shape (4, 7); give the head of this layer"
    )


def fdbd_with_head(weight: torch.Tensor):
    features = torch.rand(5, weight.shape[1])
    head = (weight, torch.zeros(len(weight)))
    rows = Latents(logits=features @ weight.T, features={"penultimate": features}, head=head)
    return fit(detector("fdbd"), rows)


@pytest.mark.parametrize("name", [*HEADS, "gradnorm"])
def test_a_model_of_one_class_is_refused_where_it_would_score_all_rows_alike(name):
    features = torch.rand(5, 3)
    head = (torch.rand(1, 3), torch.zeros(1))
    rows = Latents(logits=features @ head[0].T, features={"penultimate": features}, head=head)
    with pytest.raises(DetectorError) as caught:
        fit(detector(name), rows).score(rows)
    assert str(caught.value) == (
        f"{name}: the model must have ≥ 2 classes, got 1; use a detector of features alone"
    )


def test_fdbd_names_classes_that_share_their_weights():
    weight = torch.rand(4, 3)
    weight[3] = weight[1]
    with pytest.raises(DetectorError, match=r"own, got equal ones for 1 and 3; merge these classe"):
        fdbd_with_head(weight)
