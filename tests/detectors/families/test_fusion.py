import json

import pytest
import torch
from scipy.stats import spearmanr

from latentood.detectors.fitted import fit, load
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput, UnknownName
from latentood.latents import Latents
from latentood.stats.neighbours import search
from latentood.testing.detector_contract import as_numpy
from tests.parity.agreement import assert_agrees

FUSIONS = ("fusion_mean", "fusion_max", "fusion_fisher", "fusion_brown")
TWO = ("energy", "knn:penultimate:k=7")


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("members", [("msp",), TWO, ("rmd:mc.entropy/penultimate", "react")])
def test_any_members_agree_with_the_slow_formula(blobs, name, members):
    assert_agrees(blobs, name, members=members)


def test_members_are_fitted_as_they_are_alone(blobs):
    train, val, rows = blobs.train.latents(), blobs.id.latents("val"), blobs.far.latents()
    fused = fit(detector("fusion_mean", members=TWO), train, val)
    alone = [fit(d, train, val) for d in (detector("energy"), detector("knn", k=7))]
    assert torch.equal(fused.state["1.bank"], alone[1].state["bank"])
    scores = [(d.score(rows) - d.score(val).mean()) / d.score(val).std(correction=0) for d in alone]
    torch.testing.assert_close(fused.score(rows), sum(scores) / 2, rtol=1e-12, atol=0)


def test_a_bank_of_a_member_does_not_match_its_own_rows(blobs):
    train = blobs.train.latents()
    fused = fit(detector("fusion_max", members=("knn:k=1",)), train, blobs.id.latents())
    lowest = -fused.state["mean"] / fused.state["spread"]  # what a distance of 0 would score
    assert fused.score(train).min() > lowest


def test_the_index_of_a_member_is_built_once(blobs, monkeypatch):

    built = []
    original = search.make_searcher
    monkeypatch.setattr(
        search, "make_searcher", lambda *a, **k: (built.append(1), original(*a, **k))[1]
    )
    fused = fit(detector("fusion_mean", members=TWO), blobs.train.latents(), blobs.id.latents())
    before = len(built)
    fused.score(blobs.far.latents())
    fused.score(blobs.id.latents())
    assert len(built) == before + 1


def test_a_fusion_of_fusions_is_saved_and_loaded(blobs, tmp_path):
    nested = detector("fusion_max", members=("fusion_brown", "gen"))
    fused = fit(nested, blobs.train.latents(), blobs.id.latents())
    fused.save(tmp_path / "fused")
    rows = blobs.far.latents()
    assert torch.equal(load(tmp_path / "fused").score(rows), fused.score(rows))
    assert "0.1.bank" in fused.state


def test_members_tell_their_diagnostics(blobs):
    fused = fit(detector("fusion_mean", members=TWO), blobs.train.latents(), blobs.id.latents())
    diagnostics = json.loads(json.dumps(fused.provenance["diagnostics"]))
    assert diagnostics["knn:penultimate:k=7"]["bank"] == 240


def test_statistics_of_all_members_are_declared(blobs):
    members = detector("fusion_mean").parts
    declared = {s for part in members for s in part.statistics()}
    assert set(detector("fusion_mean").statistics()) == declared


def test_brown_and_fisher_rank_alike_and_brown_is_less_surprised(blobs):
    train, val, rows = blobs.train.latents(), blobs.id.latents(), blobs.far.latents()
    members = ("energy", "max_logit", "msp")
    fisher, brown = (
        fit(detector(name, members=members), train, val).score(rows)
        for name in ("fusion_fisher", "fusion_brown")
    )
    assert spearmanr(fisher, brown).statistic > 1 - 1e-12
    assert bool((brown < fisher).all())


def test_surprise_is_bounded_by_the_number_of_val_rows(blobs):
    fitted = fit(detector("fusion_fisher", members=("msp",)), *both(blobs))
    far = fitted.score(Latents(logits=torch.zeros(1, 4)))
    assert far.exp().item() == pytest.approx(81)  # one member: p = 1/(V+1)


def both(blobs):
    return blobs.train.latents(), blobs.id.latents("val")


def test_blocks_do_not_decide_ties_with_val_rows(blobs):
    fitted = fit(detector("fusion_fisher"), *both(blobs))
    rows = blobs.id.latents()
    whole = as_numpy(fitted.score(rows))
    keys = fitted.detector.needs().score
    single = torch.cat([fitted.score(rows.take(keys, i, i + 1)) for i in range(80)])
    assert as_numpy(single) == pytest.approx(whole, rel=1e-9)


def test_a_member_that_does_not_vary_is_refused(blobs):
    val = Latents(logits=torch.ones(30, 4), name="val")
    with pytest.raises(DetectorError) as caught:
        fit(detector("fusion_mean", members=("energy",)), blobs.train.latents(), val)
    assert str(caught.value) == (
        "fusion_mean: scores of the member 'energy' must vary between ID val rows, got one value "
        'for all 30 of "val"; use more ID val rows or leave that member out'
    )


def test_a_fusion_needs_val_rows(blobs):
    with pytest.raises(MissingInput, match=r"^fusion_max: needs .* of an ID validation split"):
        fit(detector("fusion_max"), blobs.train.latents())


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ((), DetectorError, r"members must be at least one and all different, got \(\); name each"),
        (("msp", "msp"), DetectorError, r"members must be at least one and all different, got"),
        ((3,), DetectorError, "each of members must be of type str, got 3"),
        (("knn:",), DetectorError, "must be written as name:layer:option=value, got 'knn:'; "),
        (("knn:k=",), DetectorError, "must be written as name:layer:option=value, got 'knn:k='"),
        (("energy:layer3",), DetectorError, "members with a layer must be able to read any, got"),
        (("knnn",), UnknownName, "no detector named 'knnn'; did you mean 'knn'"),
        (("knn:kk=3",), UnknownName, "no hyperparameter of knn named 'kk'"),
        (("knn:k=0",), DetectorError, "knn: k must be ≥ 1, got 0"),
        ("knn", DetectorError, "members must be of type tuple, got 'knn'"),
    ],
)
def test_members_that_cannot_be_are_refused_at_once(members, error, message):
    with pytest.raises(error, match=message):
        detector("fusion_mean", members=members)


def test_options_of_members_are_read_as_numbers_words_and_truths():
    (member,) = detector(
        "fusion_mean", members=("knn:layer3:share=1e-1:normalise=false:metric=squared_euclidean",)
    ).parts
    assert member == detector(
        "knn", layer="layer3", share=0.1, normalise=False, metric="squared_euclidean"
    )
