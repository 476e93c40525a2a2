import math
from typing import get_args

import pytest
import torch

from latentood.detectors.families.evidential import _dissonance
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.latents import Latents
from latentood.stats.distributions.evidence import Evidence
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees

NAMES = (
    "vacuity",
    "precision",
    "dissonance",
    "dirichlet_entropy",
    "distributional_mutual_information",
    "dirichlet_expected_entropy",
    "evidential_max_prob",
)


def scores(name: str, logits, evidence: str = "relu") -> torch.Tensor:
    rows = Latents(logits=torch.as_tensor(logits, dtype=torch.float64))
    return fit(detector(name, evidence=evidence), rows).score(rows)


@pytest.mark.parametrize("evidence", get_args(Evidence))
@pytest.mark.parametrize("name", NAMES)
def test_every_evidence_agrees_with_the_slow_formula(blobs, name, evidence):
    assert_agrees(blobs, name, evidence=evidence)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_head_predicts_is_read_without_an_evidence_function(blobs, name):
    assert_agrees(blobs, name, head="network")


@pytest.mark.parametrize("classes", [1, 2, 7, 1000])
def test_vacuity_is_one_without_evidence(classes):
    assert scores("vacuity", -torch.rand(5, classes)).tolist() == [1.0] * 5


@pytest.mark.parametrize("classes", [2, 7])
def test_without_evidence_every_score_but_those_of_ambiguity_is_at_its_largest(classes):
    nothing = torch.zeros(1, classes)
    some = torch.rand(100, classes) * 5
    for name in set(NAMES) - {"dissonance", "dirichlet_expected_entropy"}:
        assert float(scores(name, nothing)) > float(scores(name, some).max())
    assert float(scores("dissonance", nothing)) == 0.0


def test_two_equal_beliefs_are_all_conflict_and_one_alone_is_none():
    vacuity, dissonance = (
        scores(name, [[9.0, 9.0, 0.0], [9.0, 0.0, 0.0]]) for name in ("vacuity", "dissonance")
    )
    assert torch.allclose(dissonance, torch.tensor([1 - 3 / 21, 0.0], dtype=torch.float64))
    assert float(dissonance[0] + vacuity[0]) == pytest.approx(1.0)


def test_dissonance_tells_conflicting_rows_from_clear_ones():
    draw = torch.Generator().manual_seed(0)
    clear = torch.rand(100, 5, generator=draw)
    clear[:, 0] += 20
    torn = clear.clone()
    torn[:, 3] += 15
    assert auroc(scores("dissonance", clear), scores("dissonance", torn)) == 1.0


def test_dissonance_of_many_classes_is_computed_in_steps(monkeypatch):
    logits = torch.rand(20, 30) * 5
    whole = scores("dissonance", logits)
    monkeypatch.setattr("latentood.detectors.families.evidential._CPU_PAIRS", 3 * 30**2)
    assert torch.allclose(scores("dissonance", logits), whole, rtol=1e-14)


def test_dissonance_counts_beliefs_far_below_the_largest():
    """The whole sum less the largest belief would be 0 here, and 0/0 with it."""
    beliefs = torch.tensor([[0.9, 3e-20, 3e-20]], dtype=torch.float64)
    balance = 2 * 3e-20 / 0.9  # of the largest with each of the others
    pair = (3e-20 * 1 + 0.9 * balance) / 0.9  # for a small one: the other small one, the largest
    assert float(_dissonance(beliefs)) == pytest.approx(0.9 * balance + 2 * 3e-20 * pair, rel=1e-9)


@pytest.mark.parametrize("evidence", get_args(Evidence))
@pytest.mark.parametrize("name", NAMES)
def test_logits_of_any_size_give_numbers(name, evidence):
    logits = [[1e4, -1e4, 0.0], [-1e38, 1e38, 1e38], [-1e38, -1e38, -1e38], [800.0, 799.0, 0.0]]
    scored = scores(name, logits, evidence)
    assert bool(scored.isfinite().all())


def test_max_prob_by_exp_evidence_is_near_the_softmax_where_logits_are_large():
    logits = torch.tensor([[800.0, 799.0], [750.0, 710.0]], dtype=torch.float64)
    expected = -logits.softmax(dim=1).amax(dim=1)
    assert torch.allclose(scores("evidential_max_prob", logits, "exp"), expected, atol=1e-14)


def test_differential_entropy_of_no_evidence_is_that_of_the_flat_distribution():
    assert float(scores("dirichlet_entropy", torch.zeros(1, 5))) == pytest.approx(-math.log(24))


def test_softplus_evidence_is_exact_beyond_where_torch_approximates_it():
    evidence = 21 + math.log1p(math.exp(-21))
    scored = float(scores("vacuity", [[21.0, -800.0]], "softplus"))
    assert scored == pytest.approx(2 / (2 + evidence), rel=1e-14, abs=0)


def test_precision_ranks_as_vacuity_and_still_does_where_vacuity_is_zero():
    logits = torch.rand(50, 4) * 20
    for evidence in get_args(Evidence):
        ranks = [scores(name, logits, evidence).argsort() for name in ("precision", "vacuity")]
        assert ranks[0].tolist() == ranks[1].tolist()
    huge = [[800.0, 0.0], [900.0, 0.0]]
    assert scores("vacuity", huge, "exp").tolist() == [0.0, 0.0]
    assert scores("precision", huge, "exp").tolist() == [-800.0, -900.0]


def test_expected_entropy_and_mutual_information_add_up_to_the_entropy_of_the_mean():
    logits = torch.rand(50, 4) * 9
    parts = [
        scores(name, logits)
        for name in ("dirichlet_expected_entropy", "distributional_mutual_information")
    ]
    mean = (logits.double() + 1) / (logits.double() + 1).sum(dim=1, keepdim=True)
    assert torch.allclose(sum(parts), torch.special.entr(mean).sum(dim=1), atol=1e-12)


def test_expected_entropy_of_ambiguous_rows_stays_high_however_much_evidence_there_is():
    clear, torn = [[1000.0, 0.0, 0.0]], [[1000.0, 1000.0, 0.0]]
    assert float(scores("dirichlet_expected_entropy", torn)) == pytest.approx(math.log(2), abs=0.02)
    assert float(scores("dirichlet_expected_entropy", clear)) < 0.02
