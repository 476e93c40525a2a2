import json
from itertools import product
from typing import get_args

import pytest
import torch
from torch.autograd import gradcheck

from latentood.detectors.families.evidential import Vacuity
from latentood.detectors.fitted import fit
from latentood.errors import ConfigError, ModelError
from latentood.latents import Latents
from latentood.models.heads import HEADS, EvidentialHead, Prediction, build_head, describe
from latentood.models.heads.evidential import Reconcile
from latentood.stats.distributions.evidence import Evidence
from tests.references.dirichlet_losses import concentrations

CASES = list(product(get_args(Evidence), get_args(Reconcile)))
LOGITS = [[-1.0, 0.5, 2.0], [3.0, 2.9, 5.0], [-2.0, -0.3, -1.0]]


def head_of(evidence: str, reconcile: str) -> EvidentialHead:
    head = EvidentialHead(3, 3, evidence=evidence, reconcile=reconcile)
    if reconcile == "learnt":
        with torch.no_grad():
            head.redundancy.copy_(torch.tensor([0.5, -0.25, 0.125]))
    return head


@pytest.mark.parametrize(("evidence", "reconcile"), CASES)
def test_concentrations_are_those_of_the_slow_formula(evidence, reconcile):
    head = head_of(evidence, reconcile)
    with torch.no_grad():
        given = head(torch.tensor(LOGITS))
    R = head.redundancy.tolist() if reconcile == "learnt" else None
    rows = torch.tensor(LOGITS).tolist()
    expected = [concentrations(z, evidence, reconcile, R) for z in rows]
    assert given.log_alpha.dtype == torch.float64
    assert torch.allclose(given.log_alpha.exp(), torch.tensor(expected).double(), rtol=1e-7)
    assert torch.equal(given.logits, torch.tensor(LOGITS))
    strength = torch.tensor([sum(alpha) for alpha in expected]).double()
    assert torch.allclose(head.uncertainty(given), 3 / strength, rtol=1e-7)
    assert torch.allclose(given.probability, given.log_alpha.exp() / strength.unsqueeze(1))


@pytest.mark.parametrize(("evidence", "reconcile"), CASES)
def test_gradients_are_right_and_finite_for_logits_of_any_size(evidence, reconcile):
    head = head_of(evidence, reconcile)
    given = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: head(z).log_alpha, given)
    extreme = torch.tensor(
        [[1e4, -1e4, 0.0], [-1e4] * 3, [1e4] * 3, [0.0] * 3, [50.0, 60.0, 40.0]], requires_grad=True
    )
    prediction = head(extreme)
    (prediction.log_alpha.sum() + head.uncertainty(prediction).sum()).backward()
    grads = [extreme.grad, *(p.grad for p in head.parameters())]
    assert bool(prediction.log_alpha.isfinite().all())
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_the_learnt_share_learns():
    head = head_of("softplus", "learnt")
    assert gradcheck(
        lambda R: (
            torch.func.functional_call(
                head, {"redundancy": R}, torch.tensor(LOGITS, dtype=torch.float64)
            ).log_alpha
        ),
        torch.tensor([0.5, -0.25, 0.125], dtype=torch.float64, requires_grad=True),
    )


@pytest.mark.parametrize("evidence", get_args(Evidence))
def test_vacuity_of_the_head_is_that_of_the_detector(evidence):
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)) * 5
    head = EvidentialHead(4, 4, evidence=evidence)
    rows = Latents(logits=logits)
    assert torch.allclose(
        head.uncertainty(head(logits)), fit(Vacuity(evidence=evidence), rows).score(rows),
        rtol=1e-14,
    )  # fmt: skip


def test_a_head_is_built_again_from_its_record():
    head = head_of("softplus", "learnt")
    again = build_head(json.loads(json.dumps(describe(head))), HEADS)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(torch.tensor(LOGITS)).log_alpha, head(torch.tensor(LOGITS)).log_alpha)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="one logit for each of 10 classes, got 512"):
        EvidentialHead(512, 10)
    with pytest.raises(ConfigError, match=r"evidence must be one of .*, got 'sigmoid'"):
        EvidentialHead(3, 3, evidence="sigmoid")
    with pytest.raises(ConfigError, match=r"reconcile must be one of .*, got 'max'"):
        EvidentialHead(3, 3, reconcile="max")
    with pytest.raises(ModelError, match="must have log_alpha"):
        EvidentialHead(3, 3).uncertainty(Prediction(torch.zeros(1, 3)))
