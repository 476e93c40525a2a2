import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("rho", [0.001, 0.1, 1.0])
def test_every_share_agrees_with_the_slow_formula(blobs, rho):
    assert_agrees(blobs, "cfood", rho=rho)


def test_rows_that_occur_twice_agree_too(blobs):
    twice = blobs.train.rows(torch.arange(120).repeat(2))
    train, far = twice.latents(), blobs.far.latents()
    assert len(fit(detector("cfood"), train).score(far)) == 80
    single = fit(detector("cfood", rho=0.1), blobs.train.rows(slice(120)).latents())
    scores = fit(detector("cfood", rho=0.1), train).score(far)
    assert torch.corrcoef(torch.stack([scores, single.score(far)]))[0, 1] > 0.99


def on_a_circle(degrees: list[float]) -> Latents:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return Latents(features={"penultimate": torch.stack([angles.cos(), angles.sin()], dim=1)})


def test_the_share_is_the_smallest_whose_radius_covers_the_row():
    """At 5° the row is the nearest of 0° and 12°, and the 2nd, 3rd of those at 31° and 60°."""
    train = on_a_circle([0, 12, 31, 60])
    for needed, k in ((1, 1), (2, 1), (3, 2), (4, 3)):
        fitted = fit(detector("cfood", rho=needed / 4), train)
        assert float(fitted.score(on_a_circle([5]))) == k / 4
    assert float(fit(detector("cfood", rho=0.5), train).score(on_a_circle([180]))) == 1.0


def test_a_reference_row_is_no_neighbour_of_itself():
    train = on_a_circle([0, 12, 31, 60])
    fitted = fit(detector("cfood", rho=0.25), train)
    assert fitted.score(train).tolist() == [1 / 4, 1 / 4, 1 / 4, 2 / 4]
    stranger = fitted.score(on_a_circle([0, 12, 31, 60]))
    assert stranger.tolist() == [1 / 4] * 4


def test_queries_are_scored_in_steps(blobs, monkeypatch):
    train = blobs.train.latents()
    fitted = fit(detector("cfood"), train)
    whole = fitted.score(train)
    monkeypatch.setattr("latentood.detectors.families.neighbours.reverse._ELEMENTS", 240 * 7)
    assert torch.equal(fitted.score(train), whole)


def test_a_sample_is_drawn_by_the_seed_alone(blobs):
    def state(**options):
        return fit(detector("cfood", reference=60, **options), blobs.train.latents()).state

    first, again, other = state(), state(), state(seed=1)
    assert len(first["bank"]) == 60
    assert torch.equal(first["positions"], again["positions"])
    assert not torch.equal(first["positions"], other["positions"])


def test_a_sample_scores_nearly_as_the_whole_does(blobs):
    whole, sample = (
        fit(detector("cfood", rho=0.1, reference=n), blobs.train.latents()) for n in (240, 120)
    )
    pair = torch.stack([f.score(blobs.far.latents()) for f in (whole, sample)])
    assert (pair[0] - pair[1]).abs().max() < 0.2


def test_the_rows_needed_are_told(blobs):
    fitted = fit(detector("cfood", rho=0.07, reference=100), blobs.train.latents())
    assert fitted.provenance["diagnostics"] == {"reference": 100, "needed": 7}


def test_one_row_has_no_neighbourhood(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("cfood"), blobs.train.rows(slice(1)).latents())
    assert str(caught.value) == (
        'cfood: a neighbourhood must have ≥ 2 reference rows, got 1 of "train"; extract more rows'
    )
