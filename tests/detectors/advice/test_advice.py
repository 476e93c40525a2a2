"""Rules as data, and what they make of measures."""

import json
import math

import pytest
import torch

from latentood.detectors.advice.advice import NETWORK, advise_on, judged
from latentood.detectors.advice.evidence import BY_OUTCOME, SEEN
from latentood.detectors.advice.measures import MEASURES, Measured
from latentood.detectors.advice.rules import FAMILIES, OUTCOMES, RULES, Rule
from latentood.detectors.registry import registry
from latentood.errors import DataError
from latentood.latents import Latents
from tests.detectors.advice.examples import latents, rows


def families(place):
    return {one.family: one for one in place.families}


@pytest.mark.parametrize("rule", RULES, ids=lambda one: f"{one.family}-{one.measure}")
def test_every_rule_is_complete_and_reads_what_its_family_can_see(rule):
    assert rule.reason
    assert not rule.reason.endswith(".")
    assert rule.source
    assert math.isfinite(rule.likely)
    assert rule.likely != rule.unlikely
    place = FAMILIES[rule.family].place
    seen = ("entropy",) if place == "entropy" else ("layer", "network")
    assert MEASURES[rule.measure].of in seen
    assert rule.outcome(rule.likely) == "likely"
    assert rule.outcome(rule.unlikely) == "unlikely"
    assert rule.outcome((rule.likely + rule.unlikely) / 2) == "uncertain"
    far = rule.likely - rule.unlikely
    assert rule.outcome(rule.likely + far) == "likely"
    assert rule.outcome(rule.unlikely - far) == "unlikely"


def test_every_family_has_rules_and_detectors_that_exist_and_evidence():
    assert {rule.family for rule in RULES} == set(FAMILIES) == set(SEEN)
    for family in FAMILIES.values():
        assert set(family.detectors) <= set(registry())
        if family.place in ("layer", "entropy"):
            assert registry()[family.detectors[0]].per_layer or family.detectors[0] == "vim"
    agreed = sum(one.agreed for one in SEEN.values())
    checked = sum(one.checked for one in SEEN.values())
    assert agreed == sum(one.agreed for one in BY_OUTCOME.values())
    assert checked == sum(one.checked for one in BY_OUTCOME.values())
    assert len({(rule.family, rule.measure) for rule in RULES}) == len(RULES)


def test_no_rule_reads_ood():
    assert not [name for name in MEASURES if "ood" in name]


def test_a_rule_that_fit_and_val_rows_contradict_is_uncertain():
    both = judged("kernel density", {"effective_rank": Measured(5.0, 5.0)})
    assert both.outcome == "likely"
    assert both.reason == "effective_rank 5 ≤ 10: a kernel density needs few directions"
    apart = judged("kernel density", {"effective_rank": Measured(5.0, 30.0)})
    assert apart.outcome == "uncertain"
    assert "fit and val rows disagree" in apart.reason
    between = judged("kernel density", {"effective_rank": Measured(20.0)})
    assert between.reason.startswith("effective_rank 20, between 50 and 10")
    against = judged("kernel density", {"effective_rank": Measured(60.0)})
    assert (against.outcome, against.score) == ("unlikely", -1)
    assert against.reason.startswith("effective_rank 60 ≥ 50")
    assert judged("kernel density", {"effective_rank": Measured(val=5.0)}).outcome == "likely"


def test_one_rule_that_decides_is_enough_against_a_family():
    good = {"width": Measured(2048.0), "kurtosis": Measured(0.0)}
    assert judged("shaping", good | {"rectified": Measured(1.0)}).outcome == "likely"
    refused = judged("shaping", good | {"rectified": Measured(0.0)})
    assert refused.outcome == "unlikely"
    assert refused.reason.startswith("rectified 0 ≤ 0")
    assert refused.score == pytest.approx(1 / 3)


def test_rules_that_contradict_each_other_are_both_given():
    table = {"norm_logit": Measured(0.9), "classes": Measured(5.0)}
    verdict = judged("gradient", table)
    assert verdict.outcome == "uncertain"
    assert verdict.reason.startswith("for: norm_logit 0.9 ≥ 0.5")
    assert "against: classes 5 ≤ 10" in verdict.reason


def test_families_that_read_logits_are_judged_by_the_penultimate_layer_as_well():
    advice = advise_on(latents(spread=1.5), None)
    used = {one.rule.measure for one in families(advice[NETWORK])["logits"].findings}
    assert used == {"accuracy", "norm_wrong"}


def test_a_family_without_measures_is_uncertain_and_says_what_is_missing():
    verdict = judged("class densities", {"ncm_accuracy": Measured(missing="there are no labels")})
    assert verdict.outcome == "uncertain"
    assert "ncm_accuracy: there are no labels" in verdict.reason
    assert verdict.unmeasured["class_rows_by_width"] == "it was not measured"


def test_advice_on_collapsed_and_on_mixed_rows_differs_where_it_should():
    collapsed = families(advise_on(latents(spread=0.1), latents(spread=0.1, seed=1))["penultimate"])
    mixed = families(advise_on(latents(spread=3.0), latents(spread=3.0, seed=1))["penultimate"])
    for family in ("collapse", "prototypes", "mahalanobis"):
        assert collapsed[family].outcome == "likely", family
        assert OUTCOMES[mixed[family].outcome] < 1, family
    assert {one.rule.measure: one.outcome for one in mixed["collapse"].findings}[
        "nc1"
    ] == "unlikely"
    assert mixed["prototypes"].outcome == "unlikely"
    ranks = [OUTCOMES[one.outcome] for one in collapsed.values()]
    assert ranks == sorted(ranks, reverse=True)


def test_only_detectors_that_find_their_inputs_are_named():
    given = rows()
    given["features"]["layer1"] = given["features"]["penultimate"]
    advice = advise_on(Latents(**given), None)
    assert [one.name for one in advice.places] == [NETWORK, "penultimate", "layer1"]
    own, other = families(advice["penultimate"]), families(advice["layer1"])
    assert own["subspace"].detectors[0] == "vim"
    assert "vim" not in other["subspace"].detectors
    assert "shaping" not in other
    assert advice[NETWORK].unreadable == {"monte carlo": "needs mc.logits"}
    bare = advise_on(latents("labels", "head", "logits"), None)
    assert bare["penultimate"].unreadable["relative mahalanobis"] == "needs labels"
    assert "vim" not in families(bare["penultimate"])["subspace"].detectors
    assert "react" not in families(advice["penultimate"])["shaping"].detectors  # it reads val rows
    confirmed = advise_on(latents(), latents(seed=1))
    assert "react" in families(confirmed["penultimate"])["shaping"].detectors


def test_a_layer_that_cannot_be_measured_leaves_the_others():
    given = rows()
    given["features"]["maps"] = torch.ones(240, 3, 4)
    given["features"]["ruined"] = torch.full((240, 3), torch.nan)
    advice = advise_on(Latents(**given), None)
    assert "pool or reshape it first" in advice["maps"].problem
    assert "row 0" in advice["ruined"].problem
    assert advice["penultimate"].measures["nc1"].fit is not None
    assert {one.outcome for one in advice["ruined"].families} == {"uncertain"}


def test_entropies_and_dirichlets_are_advised_on():
    generator = torch.Generator().manual_seed(0)
    given = rows()
    given["mc_entropy"] = {"layer1": torch.randn(240, 5, generator=generator)}
    given["dirichlet"] = {"own": given["logits"]}
    advice = advise_on(Latents(**given), None)
    verdict = families(advice["layer1"])["latent entropy"]
    assert verdict.outcome == "likely"
    assert verdict.detectors == ("larem", "lared")
    assert families(advice[NETWORK])["evidential"].outcome == "likely"
    plain = advise_on(latents(), None)
    assert families(plain[NETWORK])["evidential"].outcome == "unlikely"


def test_no_rows_are_an_error_and_few_rows_decide_nothing():
    given = rows()
    empty = {"features": {"penultimate": given["features"]["penultimate"][:0]}}
    with pytest.raises(DataError, match="no rows to advise on"):
        advise_on(Latents(**empty), None)
    few = advise_on(latents(each=2), None)
    assert few["penultimate"].measures["nc1"].missing.startswith("8 fit rows are fewer")
    assert families(few["penultimate"])["collapse"].outcome == "uncertain"


def test_the_advice_is_json_and_marked_as_a_heuristic_everywhere():
    document = json.loads(json.dumps(advise_on(latents(), None).as_json(), allow_nan=False))
    assert document["heuristic"] is True
    assert "heuristic" in document["note"]
    for place in document["places"]:
        assert all(one["heuristic"] for one in place["families"])
        assert all({"agreed", "disagreed", "open"} == set(one["seen"]) for one in place["families"])
    assert document["rows"] == {"fit": 240, "val": 0}


def test_a_planted_wrong_direction_is_noticed():
    right = Rule("x", "nc1", 0.1, 1.0, "", "")
    turned = Rule("x", "nc1", 1.0, 0.1, "", "")
    assert (right.outcome(0.01), turned.outcome(0.01)) == ("likely", "unlikely")
