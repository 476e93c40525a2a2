"""Objectives of networks that end in a softmax."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from latentood.errors import ConfigError
from latentood.models.heads import Prediction, SoftmaxHead
from latentood.training.objectives import OBJECTIVES
from tests.references import softmax_training as reference
from tests.training.objectives.clouds import accuracy, clouds, far, separation, trained

HEAD = SoftmaxHead(4, 4)
NAMES = ["cross_entropy", "logit_norm", "outlier_exposure"]


def data(rows=6, scale=3.0):
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    outliers = scale * torch.randn(rows - 1, 4, generator=generator, dtype=torch.float64)
    return logits, torch.arange(rows) % 4, outliers


def loss(objective, logits, labels, outliers):
    others = Prediction(outliers) if objective.reads_outliers else None
    return objective.loss(Prediction(logits), labels, head=HEAD, outliers=others)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_the_formula_with_smoothed_labels(smoothing):
    logits, labels, outliers = data()
    got = loss(
        OBJECTIVES.build("cross_entropy", label_smoothing=smoothing), logits, labels, outliers
    )
    wanted = reference.cross_entropy(logits.tolist(), labels.tolist(), smoothing)
    assert float(got) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.04, 1.0])
def test_logit_norm_is_the_formula(temperature):
    logits, labels, outliers = data()
    got = loss(OBJECTIVES.build("logit_norm", temperature=temperature), logits, labels, outliers)
    wanted = reference.logit_norm(logits.tolist(), labels.tolist(), temperature)
    assert float(got) == pytest.approx(wanted, rel=1e-6)


def test_logit_norm_does_not_fall_as_logits_grow():
    logits, labels, outliers = data()
    objective = OBJECTIVES.build("logit_norm")
    near, scaled = (loss(objective, s * logits, labels, outliers) for s in (1, 1000))
    assert float(near) == pytest.approx(float(scaled), rel=1e-5)


def test_the_predictions_of_logit_norm_keep_the_logits_as_they_are():
    network = trained(OBJECTIVES.build("logit_norm"), steps=1)
    points = clouds()[0]
    assert torch.equal(network(points).logits, network.classifier(points))
    assert torch.equal(network(points).probability, network.classifier(points).softmax(dim=1))


def test_outlier_exposure_is_the_formula():
    logits, labels, outliers = data()
    got = loss(OBJECTIVES.build("outlier_exposure", outlier_weight=0.3), logits, labels, outliers)
    wanted = reference.outlier_exposure(logits.tolist(), labels.tolist(), outliers.tolist(), 0.3)
    assert float(got) == pytest.approx(wanted, rel=1e-12)


def test_uniform_predictions_of_outliers_cost_the_least():
    logits, labels, _ = data()
    objective = OBJECTIVES.build("outlier_exposure")
    least = loss(objective, logits, labels, torch.zeros(2, 4))
    known = loss(OBJECTIVES.build("cross_entropy"), logits, labels, None)
    assert float(least) == pytest.approx(float(known) + 0.5 * math.log(4), rel=1e-6)
    assert loss(objective, logits, labels, torch.eye(4)) > least


def test_outlier_exposure_without_outliers_is_refused_by_name():
    logits, labels, _ = data()
    with pytest.raises(
        ConfigError,
        match=r"^objective outlier_exposure: needs predictions for OOD inputs, got none; name a "
        r"split with training\.splits\.outliers",
    ):
        OBJECTIVES.build("outlier_exposure").loss(Prediction(logits), labels, head=HEAD)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loss(name):
    logits, labels, outliers = (t.requires_grad_() if t.is_floating_point() else t for t in data())
    objective = OBJECTIVES.build(name)
    inputs = (logits, labels, outliers)
    assert gradcheck(lambda *given: loss(objective, *given), inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_loss_and_gradients_are_finite_for_logits_of_any_size(name, scale):
    logits, labels, outliers = data()
    logits = (scale * logits.sign()).float().requires_grad_()
    value = loss(OBJECTIVES.build(name), logits, labels, scale * outliers.sign().float())
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_separates_far_inputs(name):
    objective = OBJECTIVES.build(name)
    outliers = far() if objective.reads_outliers else None
    network = trained(objective, outliers=outliers)
    assert accuracy(network) > 0.97
    between = far(seed=2)[::2]  # a softmax alone is sure of the others, which are around the clouds
    assert separation(network, None if objective.reads_outliers else between) > 0.97


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing must be < 1, got 1.0"),
        ("logit_norm", {"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ("outlier_exposure", {"outlier_weight": -1.0}, "outlier_weight must be ≥ 0, got -1.0"),
    ],
)
def test_hyperparameters_outside_their_range_are_refused(name, option, message):
    with pytest.raises(ConfigError, match=f"objective {name}: {message}; look at objective:"):
        OBJECTIVES.build(name, **option)
