"""Networks that predict together."""

import pytest
import torch
from torch import nn

from latentood.errors import ModelError
from latentood.models import Ensemble, ensemble_of, lenet
from latentood.models.ensemble import combined_logits, networks_of
from latentood.pipeline.sections import Target
from latentood.pipeline.targets import build


def members(count=3):
    torch.manual_seed(0)
    return [nn.Linear(4, 3) for _ in range(count)]


def test_the_probability_is_the_mean_of_those_of_the_members():
    ensemble, points = Ensemble(members()), torch.randn(5, 4)
    wanted = sum(member(points).softmax(dim=1) for member in ensemble.members) / 3
    torch.testing.assert_close(ensemble(points).softmax(dim=1), wanted)


def test_the_energy_is_the_mean_of_those_of_the_members():
    ensemble, points = Ensemble(members()), torch.randn(5, 4)
    wanted = sum(member(points).logsumexp(dim=1) for member in ensemble.members) / 3
    torch.testing.assert_close(ensemble(points).logsumexp(dim=1), wanted)


def test_the_logits_of_one_member_and_of_equal_members_are_theirs():
    (member,), points = members(1), torch.randn(5, 4)
    for ensemble in (Ensemble([member]), ensemble_of(member, 4)):
        torch.testing.assert_close(ensemble(points), member(points))


def test_logits_of_any_size_give_finite_ones():
    logits = 1e4 * torch.randn(6, 3, 5).sign()
    logits.requires_grad_()
    combined = combined_logits(logits)
    combined.sum().backward()
    assert combined.isfinite().all()
    assert logits.grad.isfinite().all()


def test_maps_of_logits_are_combined_pixel_by_pixel():
    logits = torch.randn(2, 3, 5, 4, 4)
    whole = combined_logits(logits)
    torch.testing.assert_close(whole[:, :, 1, 2], combined_logits(logits[:, :, :, 1, 2]))


def test_the_logits_of_every_member_are_in_order():
    ensemble, points = Ensemble(members()), torch.randn(5, 4)
    logits = ensemble.member_logits(points)
    assert logits.shape == (5, 3, 3)
    assert all(torch.equal(logits[:, m], one(points)) for m, one in enumerate(ensemble.members))


def test_logits_are_taken_out_of_what_the_members_give():
    class Wrapped(nn.Linear):
        def forward(self, inputs):
            return {"logits": super().forward(inputs)}

    ensemble = Ensemble([Wrapped(4, 3), Wrapped(4, 3)], select=lambda output: output["logits"])
    points = torch.randn(5, 4)
    wanted = [nn.functional.linear(points, m.weight, m.bias) for m in ensemble.members]
    assert torch.equal(ensemble.member_logits(points), torch.stack(wanted, dim=1))


def test_members_with_other_classes_are_named():
    ensemble = Ensemble([*members(2), nn.Linear(4, 5)])
    with pytest.raises(ModelError, match=r"got \(2, 3\) of member 0 and \(2, 5\) of member 2"):
        ensemble(torch.randn(2, 4))


def test_the_networks_of_a_model_are_its_members_or_itself():
    one, several = nn.Linear(4, 3), members()
    assert networks_of(one) == [one]
    assert networks_of(Ensemble(several)) == several


def test_the_weights_of_trained_members_are_loaded_behind_their_numbers():
    trained = members()
    state = {
        f"members.{m}.{name}": value
        for m, one in enumerate(trained)
        for name, value in one.state_dict().items()
    }
    ensemble = ensemble_of(nn.Linear(4, 3), 3)
    ensemble.load_state_dict(state)
    points = torch.randn(5, 4)
    assert torch.equal(ensemble(points), Ensemble(trained)(points))


def test_copies_share_no_weights():
    ensemble = ensemble_of(nn.Linear(4, 3), 2)
    with torch.no_grad():
        ensemble.members[0].weight.zero_()
    assert ensemble.members[1].weight.any()


def test_a_pipeline_builds_it():
    target = Target(
        target="latentood.models.ensemble_of",
        args={"member": {"target": "latentood.models.lenet"}, "size": 2},
    )
    ensemble = build(target)
    assert len(ensemble.members) == 2
    assert set(ensemble.members[0].state_dict()) == set(lenet().state_dict())


@pytest.mark.parametrize("make", [lambda: Ensemble([]), lambda: ensemble_of(nn.Linear(4, 3), 0)])
def test_an_ensemble_of_none_is_refused(make):
    with pytest.raises(ModelError, match="Ensemble: needs at least one member, got none"):
        make()
