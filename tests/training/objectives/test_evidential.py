import logging
from itertools import product
from typing import get_args

import pytest
import torch
from torch.autograd import gradcheck

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction
from latentood.models.heads.evidential import Reconcile
from latentood.stats.distributions.dirichlet import Dirichlet
from latentood.stats.distributions.evidence import Evidence
from latentood.training.objectives import END, OBJECTIVES, Moment
from latentood.training.objectives import evidential as module
from latentood.training.objectives.evidential import Evidential, Risk, misleading
from tests.references import dirichlet_losses
from tests.training.objectives.planes import quality, trained

CASES = list(product(get_args(Evidence), get_args(Risk)))
LOGITS = [[-1.0, 0.5, 2.0], [3.0, 2.9, 5.0], [-2.0, -0.3, 1.0], [0.1, 70.0, 0.2]]
LABELS = [2, 0, 1, 1]
EXTREME = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [-1e4, 1e4, 1e4]]


def loss_of(objective: Evidential, logits, labels=LABELS, moment: Moment = END):
    head = objective.head(3, 3)
    return objective.loss(head(logits), torch.tensor(labels), moment, head=head)


def tensor(values, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("reconcile", get_args(Reconcile))
@pytest.mark.parametrize(("evidence", "risk"), CASES)
def test_loss_is_the_slow_formula(evidence, risk, reconcile):
    rows, labels = (LOGITS, LABELS) if evidence != "exp" else (LOGITS[:3], LABELS[:3])
    objective = Evidential(evidence=evidence, risk=risk, kl=0.5, reconcile=reconcile)
    ours = loss_of(objective, tensor(rows), labels)
    expected = dirichlet_losses.evidential(
        rows, labels, evidence, risk, 0.5, reconcile, R=[0.0, 0.0, 0.0]
    )
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("evidence", "risk"), CASES)
def test_gradients_are_right_and_finite_for_logits_of_any_size(evidence, risk):
    objective = Evidential(evidence=evidence, risk=risk)
    assert gradcheck(lambda z: loss_of(objective, z), tensor(LOGITS))
    extreme = tensor(EXTREME, torch.float32)
    loss = loss_of(objective, extreme, [1, 0, 2, 0])
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(extreme.grad.isfinite().all())


def test_only_evidence_for_other_classes_is_taken_back():
    """KL(Dir(α̃) ‖ Dir(1)), α̃ = y + (1−y)⊙α: α itself, or 1 + (1−y)⊙α, are wrong."""
    alpha = [[50.0, 1.0, 1.0], [1.0, 4.0, 2.0]]
    given = Dirichlet(torch.tensor(alpha).double().log())
    right = misleading(given, torch.tensor([0, 0]))
    flat = torch.distributions.Dirichlet(torch.ones(3).double())
    kept = torch.distributions.Dirichlet(torch.tensor([[1.0, 1.0, 1.0], [1.0, 4.0, 2.0]]).double())
    expected = torch.distributions.kl_divergence(kept, flat.expand([2]))
    assert torch.allclose(right, expected, atol=1e-12)
    assert abs(right[0].item()) < 1e-12
    log_alpha = given.log_alpha.clone().requires_grad_()
    misleading(Dirichlet(log_alpha), torch.tensor([0, 0])).sum().backward()
    assert log_alpha.grad[:, 0].tolist() == [0.0, 0.0]
    assert float(log_alpha.grad[1, 1]) > 0


def test_risks_are_what_sampling_finds():
    torch.manual_seed(0)
    logits, label = torch.tensor([[3.0, 1.0, 0.5]]), 0
    drawn = torch.distributions.Dirichlet(logits[0].double() + 1).sample((200_000,))
    sampled = {
        "digamma": -drawn[:, label].log(),
        "squared": (torch.eye(3)[label] - drawn).square().sum(dim=1),
    }
    for risk, values in sampled.items():
        ours = loss_of(Evidential(risk=risk, kl=0.0), logits, [label])
        assert abs(float(ours - values.mean())) < 6 * float(values.std()) / 200_000**0.5
    likelihood = loss_of(Evidential(risk="ml", kl=0.0), logits, [label])
    spread = float(drawn[:, label].std()) / 200_000**0.5
    assert abs(float((-likelihood).exp() - drawn[:, label].mean())) < 6 * spread


def test_the_weight_of_the_divergence_rises_by_epochs_or_by_shares_of_the_run():
    by_epochs = Evidential(kl=0.5)
    assert [by_epochs.coefficients(Moment(t, 0.9))["kl"] for t in (0, 5, 20)] == [0, 0.25, 0.5]
    by_share = OBJECTIVES.build("evidential", kl=2.0, annealing=[[0, 0], [0.2, 0.01], [1, 1]])
    shares = [by_share.coefficients(Moment(99, share))["kl"] for share in (0, 0.1, 0.2, 1)]
    assert shares == pytest.approx([0, 0.01, 0.02, 2])
    at_first = loss_of(by_epochs, tensor(LOGITS), moment=Moment(0.0, 0.0))
    assert at_first.item() == loss_of(Evidential(kl=0.0), tensor(LOGITS)).item()
    half = loss_of(by_epochs, tensor(LOGITS), moment=Moment(5.0, 0.0))
    assert half.item() == pytest.approx(loss_of(Evidential(kl=0.25), tensor(LOGITS)).item())


@pytest.mark.parametrize(("evidence", "risk"), CASES)
def test_it_trains_and_its_vacuity_separates_far_inputs(evidence, risk):
    accuracy, separation = quality(trained(Evidential(evidence=evidence, risk=risk)))
    assert accuracy > 0.97
    assert separation > 0.97


@pytest.mark.parametrize("reconcile", ["min", "learnt"])
def test_reconciled_evidence_trains(reconcile):
    network = trained(Evidential(evidence="softplus", risk="digamma", reconcile=reconcile))
    accuracy, separation = quality(network)
    assert accuracy > 0.97
    assert separation > 0.97
    if reconcile == "learnt":
        assert float(network.head.redundancy.detach().abs().min()) > 0


@pytest.mark.parametrize("risk", get_args(Risk))
@pytest.mark.parametrize("evidence", ["softplus", "exp"])
def test_softplus_and_exp_evidence_are_learnt_where_all_logits_are_negative(evidence, risk):
    negative = tensor([[-3.0, -2.0, -1.0]])
    loss_of(Evidential(evidence=evidence, risk=risk), negative, [0]).backward()
    assert float(negative.grad[0, 0]) < 0


def test_relu_evidence_dies_with_a_warning_and_a_leak_wakes_it(caplog):
    module._warn.cache_clear()
    negative = tensor([[-3.0, -2.0, -1.0], [-1.0, -4.0, -0.0]])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            silent = loss_of(Evidential(evidence="relu"), negative, [0, 1])
    assert caplog.text.count("set evidence: softplus or exp, or leak") == 1
    silent.backward()
    assert negative.grad.abs().max() == 0
    woken = loss_of(Evidential(evidence="relu", leak=0.01), negative, [0, 1])
    woken.backward()
    assert woken.item() == silent.item()
    assert float(negative.grad[0, 0]) < 0
    assert float(negative.grad[1, 1]) < 0


def test_a_network_that_gives_no_evidence_at_first_learns_by_the_leak_alone():
    module._warn(Evidential().who)  # said before
    dead, woken = (
        quality(trained(Evidential(evidence="relu", leak=leak), bias=-2.0)) for leak in (0.0, 0.1)
    )
    assert dead[0] < 0.5
    assert woken[0] > 0.97


def test_bad_settings_are_named():
    for wrong in ({"risk": "l1"}, {"evidence": "tanh"}, {"kl": -1.0}, {"reconcile": "max"}):
        with pytest.raises(ConfigError, match=f"objective evidential: {next(iter(wrong))}"):
            OBJECTIVES.build("evidential", **wrong)
    with pytest.raises(ConfigError, match="ascending shares in"):
        Evidential(annealing=((0.5, 0.0), (0.2, 1.0)))
    with pytest.raises(ConfigError, match="each of 3 classes, got 5"):
        Evidential().head(5, 3)
    with pytest.raises(ModelError, match=r"objective evidential: .* must have log_alpha"):
        Evidential().loss(
            Prediction(torch.zeros(1, 3)), torch.tensor([0]), head=Evidential().head(3, 3)
        )
