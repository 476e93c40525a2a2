"""The head with a weighted energy."""

import pytest
import torch

from latentood.errors import ConfigError
from latentood.models.heads import HEADS, Prediction, WeightedEnergyHead, build_head, describe
from tests.references import softmax_training as reference


def head(**options):
    made = WeightedEnergyHead(3, 3, **options)
    with torch.no_grad():
        made.log_weights.copy_(torch.tensor([0.5, -1.0, 0.0]))
    return made


def test_the_logits_are_the_output_and_the_uncertainty_is_the_formula():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    prediction = head()(logits)
    weights = head().log_weights.exp().tolist()
    assert torch.equal(prediction.logits, logits)
    wanted = [reference.weighted_energy(z, weights) for z in logits.tolist()]
    assert head().uncertainty(prediction).tolist() == pytest.approx(wanted, rel=1e-6)


def test_it_begins_as_the_energy_and_small_logits_are_less_certain():
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    uncertainty = WeightedEnergyHead(3, 3).uncertainty(Prediction(logits))
    torch.testing.assert_close(uncertainty, -torch.logsumexp(logits.double(), dim=1))
    assert uncertainty[1] > uncertainty[0]


def test_the_log_odds_of_an_outlier_rise_with_the_energy_whatever_is_learnt():
    one = head()
    for slope in (-3.0, 0.0, 3.0):
        with torch.no_grad():
            one.log_slope.fill_(slope)
        odds = one.outlier_logit(torch.tensor([-2.0, 0.0, 2.0]))
        assert (odds.diff() > 0).all()


def test_energies_of_huge_logits_are_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    energy = head().energy(logits)
    energy.sum().backward()
    assert energy.item() == pytest.approx(-1e4 - 0.5)
    assert logits.grad.isfinite().all()


def test_it_is_built_again_from_its_record_without_the_rows_of_the_training():
    one = head(queue=4)
    one.queue.add(torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1]))
    state = {n: v for n, v in one.state_dict().items() if n not in one.only_for_training}
    assert len(state) == len(one.state_dict()) - 1
    again = build_head(describe(one), HEADS)
    again.load_state_dict(state)
    logits = torch.randn(4, 3)
    assert torch.equal(again.uncertainty(again(logits)), one.uncertainty(one(logits)))


def test_a_queue_without_room_is_refused():
    with pytest.raises(ConfigError, match="weighted_energy: queue must be ≥ 1, got 0"):
        WeightedEnergyHead(3, 3, queue=0)
