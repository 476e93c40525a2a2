import math

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


def test_weighted_energy_reads_the_logits_that_a_head_has_weighted(blobs):
    from_head = fit(detector("weighted_energy", head="network"), blobs.train.latents())
    energy = fit(detector("energy"), blobs.train.latents())
    expected = energy.score(blobs.far.latents()) - 0.5  # what every log weight is there
    torch.testing.assert_close(from_head.score(blobs.far.latents()), expected)


@pytest.mark.parametrize("name", ["msp", "energy"])
@pytest.mark.parametrize("temperature", [0.5, 10.0, 1000.0])
def test_a_temperature_divides_the_logits(blobs, name, temperature):
    assert_agrees(blobs, name, temperature=temperature)


@pytest.mark.parametrize("name", ["msp", "max_logit", "energy", "entropy"])
def test_huge_logits_neither_overflow_nor_lose_their_order(name):
    logits = torch.tensor([[3000.0, 0.0, -3000.0], [2.0, 1.9, 1.8]])
    scores = fit(detector(name), Latents(logits=logits)).score(Latents(logits=logits))
    assert bool(scores.isfinite().all())
    assert scores[1] > scores[0]


def test_scores_have_their_known_values():
    rows = Latents(logits=torch.zeros(1, 4))
    known = {"msp": -0.25, "max_logit": 0.0, "energy": -math.log(4), "entropy": math.log(4)}
    for name, value in known.items():
        assert math.isclose(float(fit(detector(name), rows).score(rows)), value, abs_tol=1e-15)


def test_they_need_no_fit_rows():
    empty = Latents(labels=torch.empty(0, dtype=torch.int64))
    assert len(fit(detector("energy"), empty).score(Latents(logits=torch.randn(3, 2)))) == 3


@pytest.mark.parametrize("options", [{"gamma": 0.5}, {"top": 1}, {"top": 3, "gamma": 2.0}], ids=str)
def test_gen_agrees_with_the_slow_formula_for_every_option(blobs, options):
    assert_agrees(blobs, "gen", **options)


def test_gen_still_ranks_rows_whose_probability_rounds_to_one():
    logits = torch.tensor([[40.0, 0.0, 0.0], [45.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    scores = fit(detector("gen"), Latents(logits=logits)).score(Latents(logits=logits))
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert len(scores.unique()) == 3


def test_weights_of_classes_enter_the_energy(blobs):
    assert_agrees(blobs, "weighted_energy", weights=(1.0, 0.5, -2.0, 3))
    energy = fit(detector("energy"), blobs.train.latents()).score(blobs.far.latents())
    for weights in ((), (1.0, 1.0, 1.0, 1.0)):
        same = fit(detector("weighted_energy", weights=weights), blobs.train.latents())
        torch.testing.assert_close(same.score(blobs.far.latents()), energy, rtol=1e-14, atol=0)


def test_weights_must_be_as_many_as_the_classes(blobs):
    fitted = fit(detector("weighted_energy", weights=(1.0, 2.0)), blobs.train.latents())
    with pytest.raises(DetectorError) as caught:
        fitted.score(blobs.far.latents())
    assert str(caught.value) == (
        "weighted_energy: weights must be as many as the 4 classes, got 2; give one for each "
        "class, in the order of the logits"
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((0.0, -1.0), "weights must be > 0 for some class, got none above 0.0; a class of weight"),
        ((1.0, math.nan), "each of weights must be finite, got nan"),
        (("a",), "each of weights must be of type float, got 'a'"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    with pytest.raises(DetectorError, match=message):
        detector("weighted_energy", weights=weights)


@pytest.mark.parametrize(("name", "temperature"), [("odin_eps0", 1000.0), ("mcm", 1.0)])
def test_scaled_softmax_scores_are_msp_at_their_temperature(blobs, name, temperature):
    own, msp = (
        fit(d, blobs.train.latents()).score(blobs.far.latents())
        for d in (detector(name), detector("msp", temperature=temperature))
    )
    assert torch.equal(own, msp)
