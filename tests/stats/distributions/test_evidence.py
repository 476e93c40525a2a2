import math
from typing import get_args

import pytest
import torch
from torch.autograd import gradcheck

from latentood.stats.distributions.evidence import (
    Evidence,
    log_concentration,
    log_evidence,
    reconciled,
)

FUNCTIONS = {
    "relu": lambda z: max(z, 0.0),
    "softplus": lambda z: math.log1p(math.exp(z)),
    "exp": math.exp,
}
EXTREME = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0],
           [-700.0, -701.0, -746.0], [3.0, 3.0, -2.0]]  # fmt: skip


def rows(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("function", get_args(Evidence))
def test_evidence_is_the_function_of_the_logits(function):
    logits = [[-3.0, 0.0, 0.5, 21.0], [-40.0, -0.1, 30.0, 1e-8]]
    expected = [[FUNCTIONS[function](z) for z in row] for row in logits]
    ours = log_evidence(rows(logits), function)
    assert torch.allclose(ours.exp(), rows(expected), rtol=1e-14, atol=0)
    assert torch.allclose(log_concentration(ours).exp(), rows(expected) + 1, rtol=1e-14)


def test_softplus_evidence_keeps_its_logarithm_where_exp_underflows():
    assert log_evidence(rows([[-1e4, -750.0]]), "softplus").tolist() == [[-1e4, -750.0]]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("function", get_args(Evidence))
def test_reconciled_evidence_lacks_a_share_of_the_least(function, share):
    logits = [[-3.0, 0.0, 0.5, 2.0], [1.0, 1.5, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]]
    evidence = [[FUNCTIONS[function](z) for z in row] for row in logits]
    expected = [[e - share * min(row) for e in row] for row in evidence]
    ours = reconciled(log_evidence(rows(logits), function), share).exp()
    assert torch.allclose(ours, rows(expected), rtol=1e-13, atol=1e-15)


def test_reconciled_evidence_of_nearly_equal_logits_keeps_its_digits():
    ours = reconciled(rows([[0.0, 1e-12]])).exp()[0, 1]
    assert ours.item() == pytest.approx(math.expm1(1e-12), rel=1e-12, abs=0)


def reconciled_share(logits):
    return reconciled(logits, torch.sigmoid(logits.clamp(-50, 50).mean(dim=1, keepdim=True)))


@pytest.mark.parametrize("reconcile", [lambda x: x, reconciled, reconciled_share])
@pytest.mark.parametrize("function", get_args(Evidence))
def test_gradients_are_right_and_finite_for_logits_of_any_size(function, reconcile):
    def concentrations(logits):
        return log_concentration(reconcile(log_evidence(logits, function)))

    assert gradcheck(concentrations, rows([[-1.0, 0.5, 2.0], [3.0, 2.9, 5.0]]))
    extreme = rows(EXTREME)
    given = concentrations(extreme)
    given.sum().backward()
    assert bool(given.isfinite().all())
    assert bool(extreme.grad.isfinite().all())


def test_a_class_whose_evidence_is_all_taken_has_no_gradient_and_others_lose_it():
    logits = rows([[1.0, 3.0]])
    log_concentration(reconciled(log_evidence(logits, "relu"))).exp().sum().backward()
    assert torch.allclose(logits.grad, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))
