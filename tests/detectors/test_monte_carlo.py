import math

import torch

from latentood.detectors.fitting import fit
from latentood.detectors.registry import detector
from latentood.latents import Latents


def score(name: str, mc_logits: torch.Tensor) -> torch.Tensor:
    rows = Latents(mc_logits=mc_logits)
    return fit(detector(name), rows).score(rows)


def test_identical_passes_share_no_information_and_have_no_variance():
    passes = torch.randn(20, 1, 5).expand(20, 16, 5)
    information = score("mutual_information", passes)
    assert bool((information >= 0).all())
    assert information.max() < 1e-12
    assert score("mcd_variance", passes).max() < 1e-30


def test_rounding_never_makes_information_negative():
    passes = torch.randn(2000, 1, 50) + 1e-9 * torch.randn(2000, 16, 50)
    assert bool((score("mutual_information", passes.double()) >= 0).all())


def test_passes_that_are_sure_of_different_classes_share_all_information():
    passes = 1000 * torch.eye(4).unsqueeze(0)  # pass t is certain of class t
    assert math.isclose(float(score("mutual_information", passes)), math.log(4))
    assert math.isclose(float(score("predictive_entropy", passes)), math.log(4))


def test_the_variance_divides_by_the_number_of_passes():
    passes = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])  # p = 1, 0 and 0, 1
    assert float(score("mcd_variance", passes)) == 0.25
    assert float(score("mcd_variance", passes[:, :1])) == 0.0


def test_wide_passes_are_scored_in_smaller_blocks_to_the_same_scores(monkeypatch):
    from latentood.detectors import fitting

    passes = torch.randn(600, 4, 3)
    whole = score("mutual_information", passes)
    seen = []
    original = fitting.Fitted._score_block
    monkeypatch.setattr(fitting, "_BLOCK_ELEMENTS", 256 * 12)
    monkeypatch.setattr(
        fitting.Fitted, "_score_block", lambda self, b: (seen.append(len(b)), original(self, b))[1]
    )
    assert torch.equal(score("mutual_information", passes), whole)
    assert seen == [256, 256, 88]
