import math

import pytest
import torch

from latentood.detectors.fitting import fit
from latentood.detectors.registry import detector
from latentood.latents import Latents
from tests.detectors.agreement import assert_agrees


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
