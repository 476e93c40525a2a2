"""Virtual outlier synthesis."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction, SoftmaxHead, WeightedEnergyHead
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES, Batch, Moment
from latentood.training.objectives.virtual_outliers import gaussians, uncertainty_loss
from tests.references import softmax_training as reference
from tests.training.objectives.clouds import accuracy, clouds, separation, trained


def vos(**options):
    return OBJECTIVES.build("vos", **{"candidates": 200, "queue": 60} | options)


def rows_of_two_classes(rows=400):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 2 * 2  # class 1 has no rows
    mix = torch.tensor([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.2]])
    points = torch.randn(rows, 3, generator=generator) @ mix + 5.0 * labels.unsqueeze(1)
    return points, labels


def small(objective=None, width=5):
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 3))
    return Network(classifier, objective or vos(), classes=3)


def test_the_gaussians_are_the_formula():
    rows, labels = rows_of_two_classes()
    means, factor = gaussians(rows, labels, 3, 1e-9)
    wanted_means, wanted = reference.tied_gaussians(rows.double(), labels)
    np.testing.assert_allclose(means, wanted_means, rtol=1e-9)
    np.testing.assert_allclose(factor @ factor.mT, wanted, atol=1e-7)


@pytest.mark.parametrize("keep", [1, 3])
def test_outliers_are_distributed_as_the_least_likely_of_many_draws(keep):
    rows, labels = rows_of_two_classes()
    means, covariance = reference.tied_gaussians(rows.double(), labels)
    inverse, rng = np.linalg.inv(covariance), np.random.default_rng(0)
    objective = vos(candidates=50, keep=keep, ridge=1e-9)
    torch.manual_seed(0)
    drawn = [objective.draw(rows, labels, classes=3).numpy() for _ in range(150)]
    offsets = np.stack(drawn).reshape(-1, 2, keep, 3) - means[:, None]
    squared = np.einsum("nkti,ij,nktj->nkt", offsets, inverse, offsets)
    plain = rng.chisquare(3, (5_000, 50))
    plain.sort(axis=1)
    wanted = plain[:, ::-1][:, :keep]
    assert squared.mean(axis=(0, 1)) == pytest.approx(wanted.mean(axis=0), rel=0.05)
    assert squared.std(axis=(0, 1)) == pytest.approx(wanted.std(axis=0), rel=0.15)
    # In all directions alike, once whitened: the mean of uᵢuⱼ is δᵢⱼ/D.
    white = (offsets @ np.linalg.cholesky(inverse)).reshape(-1, 3)
    units = white / np.linalg.norm(white, axis=1, keepdims=True)
    np.testing.assert_allclose(units.T @ units / len(units), np.eye(3) / 3, atol=0.05)
    np.testing.assert_allclose(units.mean(axis=0), 0, atol=0.08)


def test_the_radii_are_those_of_draws_that_are_all_made():
    rows, labels = rows_of_two_classes()
    means, covariance = reference.tied_gaussians(rows.double(), labels)
    inverse, rng = np.linalg.inv(covariance), np.random.default_rng(1)
    slow = np.stack([reference.least_likely(means, covariance, 30, rng) for _ in range(100)])
    objective = vos(candidates=30, ridge=1e-9)
    torch.manual_seed(1)
    fast = np.stack([objective.draw(rows, labels, classes=3).numpy() for _ in range(100)])
    radii = [
        np.sqrt(np.einsum("nki,ij,nkj->nk", x - means, inverse, x - means)) for x in (slow, fast)
    ]
    assert radii[1].mean() == pytest.approx(radii[0].mean(), rel=0.03)


def test_draws_follow_from_torchs_global_generator():
    rows, labels = rows_of_two_classes()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first = vos().draw(rows, labels, classes=3)
    assert not torch.equal(first, vos().draw(rows, labels, classes=3))
    torch.set_rng_state(state)
    assert torch.equal(first, vos().draw(rows, labels, classes=3))


def test_dead_features_and_features_that_are_not_finite_raise_nothing():
    labels = torch.arange(9) % 3
    assert 0 < vos().draw(torch.zeros(9, 4), labels, classes=3).abs().max() < 1e-4
    assert not vos().draw(torch.full((9, 4), math.nan), labels, classes=3).isfinite().any()


def test_the_uncertainty_loss_is_the_formula():
    head = WeightedEnergyHead(3, 3)
    with torch.no_grad():
        head.log_slope.fill_(0.3)
        head.offset.fill_(-0.7)
    known, unknown = torch.tensor([-3.0, -1.0]), torch.tensor([0.5, 2.0, -0.1])
    got = uncertainty_loss(head, known.double(), unknown.double()).item()
    slope, offset = head.log_slope.exp().item(), head.offset.item()
    wanted = reference.uncertainty_loss(known.tolist(), unknown.tolist(), slope, offset)
    assert got == pytest.approx(wanted, rel=1e-6)


def test_the_uncertainty_loss_raises_energies_of_outliers_and_lowers_those_of_id_rows():
    known, unknown = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    uncertainty_loss(WeightedEnergyHead(3, 3), known, unknown).backward()
    assert (known.grad > 0).all()
    assert (unknown.grad < 0).all()


def test_gradients_are_those_of_the_uncertainty_loss():
    head = WeightedEnergyHead(3, 3).double()
    logits = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def of(logits, *parameters):
        return uncertainty_loss(head, head.energy(logits[0]), head.energy(logits[1]))

    assert gradcheck(of, (logits, head.log_weights, head.log_slope, head.offset))


def test_the_loss_is_cross_entropy_and_the_weighted_term_of_the_virtual_outliers():
    network = small().eval()
    points, labels = clouds(30)
    network.head.queue.add(network(points).features.detach(), labels)
    torch.manual_seed(2)
    loss = network.loss(network(points), labels)
    torch.manual_seed(2)
    virtual = vos().draw(*network.head.queue.rows(), classes=3)
    logits = network.classifier(points)
    known = [reference.weighted_energy(z, [1, 1, 1]) for z in logits.tolist()]
    unknown = network.classifier[2](virtual.float())
    unknown = [reference.weighted_energy(z, [1, 1, 1]) for z in unknown.tolist()]
    wanted = reference.cross_entropy(logits.tolist(), labels.tolist())
    wanted += 0.1 * reference.uncertainty_loss(known, unknown, 1, 0)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_the_last_layer_the_weights_and_phi_learn_from_the_outliers():
    network = small()
    loss, _ = network.batch_loss(Batch(*clouds(30)))
    loss.backward()
    learnt = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learnt == {name for name, _ in network.named_parameters()}
    assert all(p.grad.abs().sum() > 0 for p in network.head.parameters())


def test_it_begins_after_its_share_of_the_run_and_once_the_covariance_has_full_rank():
    points, labels = clouds(30)
    for share, rows, begun in ((0.39, 30, False), (0.4, 30, True), (1.0, 8, False), (1.0, 9, True)):
        network = small()
        batch = Batch(points[:rows], labels[:rows])
        loss, prediction = network.batch_loss(batch, Moment(0, share))
        plain = nn.functional.cross_entropy(prediction.logits.double(), batch.targets)
        assert torch.equal(loss, plain) != begun
        assert network.head.queue.count == rows
    assert vos().coefficients(Moment(0, 0.39)) == {"uncertainty_weight": 0.0}
    assert vos().coefficients(Moment(0, 0.4)) == {"uncertainty_weight": 0.1}


def test_rows_join_the_queues_in_training_mode_alone():
    network = small()
    points, labels = clouds(30)
    network.eval().loss(network(points), labels)
    assert network.head.queue.count == 0
    network.train().loss(network(points), labels)
    rows, of = network.head.queue.rows()
    features = network.classifier[:2](points)
    assert torch.equal(rows, torch.cat([features[labels == y] for y in range(3)]))
    assert torch.equal(of, labels.sort().values)


def test_loss_and_gradients_are_finite_for_logits_of_any_size():
    for scale in (0.0, 1e4):
        network = small()
        with torch.no_grad():
            network.classifier[2].weight.copy_(scale * network.classifier[2].weight.sign())
        loss, _ = network.batch_loss(Batch(*clouds(30)))
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_run_that_goes_on_from_its_state_ends_with_the_same_weights():
    def steps(network, count, first):
        for step in range(first, first + count):
            torch.manual_seed(step)
            network.zero_grad()
            network.batch_loss(Batch(*clouds(30, seed=step)))[0].backward()
            with torch.no_grad():
                for p in network.parameters():
                    p -= 0.1 * p.grad

    whole, first, second = small(), small(), small()
    steps(whole, 6, 0)
    steps(first, 3, 0)
    second.load_state_dict(first.state_dict())
    steps(second, 3, 3)
    assert all(torch.equal(v, second.state_dict()[n]) for n, v in whole.state_dict().items())


def test_it_trains_and_separates_far_inputs_better_than_without_its_term():
    network = trained(vos(start=0.2), steps=80)
    without = trained(vos(start=1.0), steps=80)
    assert accuracy(network) > 0.97
    assert separation(network) > separation(without) + 0.07


def test_wrong_settings_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"objective vos: keep must be ≤ candidates \(5\), got 6"):
        vos(candidates=5, keep=6)
    with pytest.raises(
        ConfigError, match="objective vos: the network must give one logit for each of 3 classes, "
        r"got 8; look at model\.args",
    ):  # fmt: skip
        vos().head(8, 3)
    with pytest.raises(
        ConfigError, match=r"objective vos: queue must be > 13\.3333 rows for each of 3 classes of "
        "features of width 37, got 13; look at objective:",
    ):  # fmt: skip
        small(vos(queue=13), width=37).batch_loss(Batch(*clouds(30)))


def test_predictions_without_features_are_refused_by_name():
    labels = torch.zeros(2, dtype=torch.long)
    with pytest.raises(
        ModelError, match="objective vos: predictions must have features and be those of a head "
        "'weighted_energy', got those of 'softmax'",
    ):  # fmt: skip
        vos().loss(Prediction(torch.zeros(2, 3)), labels, head=SoftmaxHead(3, 3))
