import logging

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("k", [1, 239])
def test_every_number_of_guides_agrees_with_the_slow_formula(blobs, k):
    assert_agrees(blobs, "nnguide", k=k)


@pytest.mark.parametrize("power", [0.5, 4.0])
def test_every_power_agrees_with_the_slow_formula(blobs, power):
    assert_agrees(blobs, "relation", power=power)


@pytest.mark.parametrize("name", ["nnguide", "relation"])
def test_entropies_do_as_features(blobs, name):
    assert_agrees(blobs, name, layer="mc.entropy/penultimate")


@pytest.mark.parametrize(("name", "elements"), [("nnguide", 80 * 7), ("relation", 1)])
def test_the_bank_is_read_in_steps(blobs, name, elements, monkeypatch):
    fitted = fit(detector(name), blobs.train.latents())
    whole = fitted.score(blobs.far.latents())
    monkeypatch.setattr("latentood.stats.neighbours.similarity._ELEMENTS", elements)
    assert torch.allclose(fitted.score(blobs.far.latents()), whole, rtol=1e-13)


def test_a_share_is_taken_of_every_class_by_the_seed_alone(blobs):
    rare = blobs.train.rows((blobs.train.labels != 2) | (torch.arange(240) < 20))

    def bank(**options) -> dict[str, torch.Tensor]:
        return fit(detector("nnguide", share=0.1, k=1, **options), rare.latents()).state

    first, again, other = bank(), bank(), bank(seed=1)
    kept = torch.bincount(rare.labels[first["positions"]], minlength=4)
    expected = (0.1 * torch.bincount(rare.labels)).round().clamp(min=1).long()
    assert kept.tolist() == expected.tolist()
    assert kept[2] == 1
    assert torch.equal(first["positions"], again["positions"])
    assert not torch.equal(first["positions"], other["positions"])
    assert torch.equal(first["bank"], rare.features[first["positions"]])
    energies = rare.logits[first["positions"]].logsumexp(dim=1)
    assert torch.equal(first["energies"], energies)


def test_a_share_is_not_the_first_rows_of_a_class(blobs):
    state = fit(detector("nnguide", share=0.1, k=1), blobs.train.latents()).state
    assert state["positions"].max() > 120


@pytest.mark.parametrize("name", ["nnguide", "relation"])
def test_fit_rows_do_not_vouch_for_themselves(blobs, name):
    options = {"share": 0.25} | ({"k": 1} if name == "nnguide" else {})
    train = blobs.train.latents()
    fitted = fit(detector(name, **options), train)
    inside = torch.zeros(len(train), dtype=torch.bool)
    inside[fitted.state["positions"]] = True
    own, stranger = fitted.score(train), fitted.score(blobs.train.latents())
    assert bool((own[inside] > stranger[inside]).any())
    assert bool((own[inside] >= stranger[inside]).all())
    assert torch.equal(own[~inside], stranger[~inside])


def test_more_guides_than_rows_are_refused(blobs):
    train = blobs.train.rows(slice(50)).latents()
    with pytest.raises(DetectorError) as caught:
        fit(detector("nnguide"), train)
    assert str(caught.value) == (
        'nnguide: k must be ≤ the bank\'s 50 rows, got 100; lower k or extract more of "train"'
    )
    with pytest.raises(DetectorError) as caught:
        fit(detector("nnguide", k=50), train).score(train)
    assert str(caught.value) == (
        "nnguide: k must be ≤ the bank's 49 rows, got 50; lower k or score rows other than the "
        "fit rows"
    )


def test_energies_below_zero_are_warned_of(blobs, caplog):
    low = blobs.train.logits - 100
    train = Latents(
        logits=low, labels=blobs.train.labels, features={"penultimate": blobs.train.features}
    )
    with caplog.at_level(logging.WARNING):
        fit(detector("nnguide"), blobs.train.latents())
        assert caplog.text == ""
        fit(detector("nnguide"), train)
    assert "should be above 0, but is not in 240 of the 240 rows of the bank" in caplog.text


def test_rows_that_point_away_from_the_bank_are_related_to_none():
    bank = Latents(logits=torch.ones(5, 3), features={"penultimate": torch.rand(5, 4)})
    away = Latents(logits=torch.ones(2, 3), features={"penultimate": -torch.rand(2, 4)})
    assert fit(detector("relation"), bank).score(away).tolist() == [0.0, 0.0]
