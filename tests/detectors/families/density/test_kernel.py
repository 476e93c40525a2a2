import logging

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


def latents(features, name="train"):
    return Latents(features={"penultimate": features}, name=name)


@pytest.mark.parametrize("options", [{"bandwidth": 0.3}, {"bandwidth": 5.0}], ids=str)
def test_every_bandwidth_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "kde", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1},
        {"k": 7, "engine": "torch"},
        {"k": 239, "engine": "torch"},
        {"normalise": True},
        {"layer": "mc.entropy/penultimate"},
    ],
    ids=str,
)
def test_every_option_of_lof_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "lof", **options)


def test_both_engines_give_the_same_factors(blobs):
    scores = [
        fit(detector("lof", engine=engine), blobs.train.latents()).score(blobs.far.latents())
        for engine in ("faiss", "torch")
    ]
    torch.testing.assert_close(*scores, rtol=1e-13, atol=0)


def test_scotts_rule_follows_the_scale_of_the_features(blobs):
    near, far = (
        fit(detector("kde"), latents(scale * blobs.train.features)).score(
            latents(scale * blobs.far.features)
        )
        for scale in (1.0, 1e3)
    )
    torch.testing.assert_close(far - far[0], near - near[0], rtol=1e-8, atol=1e-8)
    diagnostics = fit(detector("kde"), blobs.train.latents()).provenance["diagnostics"]
    sigma = float(blobs.train.features.var(dim=0, correction=0).mean().sqrt())
    assert diagnostics == {"bank": 240, "bandwidth": pytest.approx(sigma * 240 ** (-1 / 20))}


def test_scotts_rule_needs_spread_and_a_bandwidth_does_not():
    train = latents(torch.ones(5, 3))
    with pytest.raises(DetectorError) as caught:
        fit(detector("kde"), train)
    assert str(caught.value) == (
        "kde: features/penultimate must vary between the rows for Scott's rule to give a "
        'bandwidth, got 5 rows of "train" without spread; set bandwidth or choose another layer'
    )
    scores = fit(detector("kde", bandwidth=1.0), train).score(latents(torch.randn(4, 3)))
    assert len(scores.unique()) == 4


@pytest.mark.parametrize("name", ["kde", "lof"])
def test_a_share_of_the_bank_keeps_its_rows_apart_from_themselves(blobs, name):
    train = blobs.train.latents()
    fitted = fit(detector(name, share=0.5), train)
    inside = torch.zeros(len(train), dtype=torch.bool)
    inside[fitted.state["positions"]] = True
    assert int(inside.sum()) == 120
    own, stranger = fitted.score(train), fitted.score(blobs.train.latents())
    assert bool((own[inside] != stranger[inside]).all())
    assert torch.equal(own[~inside], stranger[~inside])


def test_the_factor_does_not_depend_on_the_scale_of_the_features(blobs):
    scores = [
        fit(detector("lof"), latents(scale * blobs.train.features)).score(
            latents(scale * blobs.far.features)
        )
        for scale in (1e-12, 1.0, 1e6)
    ]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-9, atol=0)
    torch.testing.assert_close(scores[2], scores[1], rtol=1e-9, atol=0)


def test_a_row_is_judged_by_the_density_around_it():
    tight, wide = 0.1 * torch.randn(300, 2), 5.0 * torch.randn(300, 2) + 100.0
    fitted = fit(detector("lof"), latents(torch.cat([tight, wide])))
    beside_tight, beside_wide = fitted.score(latents(torch.tensor([[1.0, 0.0], [101.0, 100.0]])))
    assert beside_tight > 5 > 1.5 > beside_wide  # as far from the middle of each


@pytest.mark.parametrize("k", [12, 50])
def test_a_neighbourhood_as_large_as_the_bank_is_refused(blobs, k):
    with pytest.raises(DetectorError) as caught:
        fit(detector("lof", k=k), blobs.train.rows(slice(12)).latents())
    assert str(caught.value) == (
        f'lof: k must be < the bank\'s 12 rows, got {k}; lower k or extract more of "train"'
    )


def test_duplicates_are_told_and_their_factor_is_finite(caplog):
    bank = torch.randn(60, 3)
    bank[:10] = bank[0]
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("lof", k=5), latents(bank))
    assert fitted.provenance["diagnostics"]["rows_with_k_duplicates"] == 10
    assert "lof: 10 of 60 bank rows of 'train' have 5 duplicates" in caplog.text
    scores = fitted.score(latents(torch.cat([bank[:1], bank[:1] + 0.1, torch.randn(4, 3)])))
    assert bool(scores.isfinite().all())
    assert scores[1] > 1e6


def test_a_bank_of_duplicates_alone_is_refused():
    with pytest.raises(
        DetectorError, match=r"^lof: .* must have rows with fewer than 5 duplicates"
    ):
        fit(detector("lof", k=5), latents(torch.ones(20, 3)))
