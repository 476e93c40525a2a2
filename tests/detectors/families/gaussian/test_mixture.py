import logging
import os

import pytest
import torch
from sklearn.mixture import GaussianMixture

from latentood.detectors.families.gaussian import mixture as module
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.evaluation.warnings import warnings_of
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees

FIT = GaussianMixture.fit


@pytest.mark.parametrize("covariance", ["full", "tied", "principal", "diag", "spherical"])
@pytest.mark.parametrize("standardise", [True, False])
def test_every_covariance_agrees_with_the_slow_formula(blobs, covariance, standardise):
    assert_agrees(blobs, "gmm", components=3, covariance=covariance, standardise=standardise)


@pytest.mark.parametrize("options", [{"seed": 3, "restarts": 2}, {"ridge": 0.2}], ids=str)
def test_other_options_agree_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "gmm", components=4, **options)


def test_as_many_components_as_dimensions_are_not_mistaken_for_one_covariance(blobs):
    """The factors of a tied covariance and of diagonal ones then have the same shape."""
    for covariance in ("tied", "diag"):
        assert_agrees(blobs, "gmm", components=16, covariance=covariance)


@pytest.mark.parametrize(
    ("rows", "components", "form"),
    [
        (240, 1, "full"), (160, 1, "full"), (159, 1, "principal"), (240, 2, "principal"),
        (64, 1, "principal"), (63, 1, "diag"), (40, 30, "diag"),
    ],
)  # fmt: skip
def test_the_rows_decide_on_the_form_of_the_covariances(blobs, caplog, rows, components, form):
    train, far = blobs.train.rows(slice(rows)).latents(), blobs.far.latents()
    with caplog.at_level(logging.INFO, "latentood"):
        auto = fit(detector("gmm", components=components), train)
    named = fit(detector("gmm", components=components, covariance=form), train)
    assert auto.provenance["diagnostics"]["covariance"] == form
    assert named.provenance["diagnostics"]["covariance"] == form
    said = f"gmm: covariance={form} for {components} components, by {rows} rows of 16 dimensions"
    assert [record.message for record in caplog.records if "covariance=" in record.message] == [
        said
    ]
    assert torch.equal(auto.score(far), named.score(far))


def test_a_wide_layer_of_few_rows_keeps_no_matrix():
    """At D = 20,000 one D × D matrix takes 3.2 GB, and K of them ten times as much."""
    rows = torch.randn(60, 20_000, generator=torch.Generator().manual_seed(0))
    fitted = fit(detector("gmm"), Latents(features={"penultimate": rows}))
    assert sum(tensor.numel() for tensor in fitted.state.values()) < 25 * 20_000


def test_principal_axes_see_a_row_that_breaks_a_correlation_where_diag_does_not():
    draw = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = draw + 0.1 * torch.randn(400, 2, dtype=torch.float64)
    broken = along * torch.tensor([1.0, -1.0], dtype=torch.float64)
    train, rows = (Latents(features={"penultimate": x}) for x in (along, broken))
    caught = {}
    for form in ("principal", "diag"):
        fitted = fit(detector("gmm", components=1, covariance=form), train)
        caught[form] = auroc(fitted.score(train), fitted.score(rows))
    assert caught["principal"] > 0.85
    assert caught["diag"] < 0.55


def test_one_component_ranks_as_ssd_does(blobs):
    mixture, distance = (
        fit(detector(name, **options), blobs.train.latents()).score(blobs.far.latents())
        for name, options in (
            ("gmm", {"components": 1, "ridge": 0.0}),
            ("ssd", {"ridge": 0.0, "normalise": False}),
        )
    )
    torch.testing.assert_close(
        mixture - mixture[0], (distance - distance[0]) / 2, rtol=1e-9, atol=1e-9
    )


@pytest.mark.skipif(
    (os.cpu_count() or 1) < 3, reason="the sums of two threads are the same in either order"
)
@pytest.mark.parametrize("covariance", ["full", "principal", "diag"])
def test_a_fit_that_begins_on_few_rows_is_as_likely_as_one_that_begins_on_all(
    monkeypatch, covariance
):
    generator = torch.Generator().manual_seed(0)
    clouds = 3 * torch.randn(3, 6, generator=generator)
    rows = clouds[torch.arange(3000) % 3] + torch.randn(3000, 6, generator=generator)
    train = Latents(features={"penultimate": rows})
    mixture = detector("gmm", components=3, covariance=covariance)
    began_on = []
    monkeypatch.setattr(
        GaussianMixture, "fit", lambda model, x: (began_on.append(len(x)), FIT(model, x))[1]
    )
    on_all = fit(mixture, train).score(train).mean()
    monkeypatch.setattr(module, "ROWS_TO_START_FROM", 150)
    on_few = fit(mixture, train).score(train).mean()
    assert began_on == [3000, 180 if covariance == "full" else 150, 3000]
    torch.testing.assert_close(on_few, on_all, rtol=1e-3, atol=0)


def test_a_large_fit_gives_the_same_bits_again():
    """Where k-means runs in several threads, it does not."""
    rows = torch.randn(6000, 8) + 6.0 * torch.randint(0, 3, (6000, 1))
    states = [
        fit(detector("gmm", components=5), Latents(features={"penultimate": rows})).state
        for _ in range(3)
    ]
    assert all(torch.equal(states[0][name], state[name]) for state in states for name in states[0])


def test_the_fit_is_told_by_its_diagnostics(blobs):
    diagnostics = fit(detector("gmm", components=3), blobs.train.latents()).provenance[
        "diagnostics"
    ]
    assert diagnostics["components"] == 3
    assert diagnostics["component_rank"] == diagnostics["width"] == 16
    assert diagnostics["converged"] is True
    assert diagnostics["iterations"] >= 1
    assert 1 < diagnostics["fewest_rows"] <= 80


@pytest.mark.parametrize(
    ("covariance", "rank"), [("full", 14), ("diag", 14), ("principal", 14), ("tied", 14)]
)
def test_a_component_of_short_rank_is_told_and_logged(blobs, caplog, covariance, rank):
    features = blobs.train.features.clone()
    features[:, [2, 11]] = 0.1
    train = Latents(features={"penultimate": features}, name="train")
    chosen = detector("gmm", components=2, covariance=covariance)
    with caplog.at_level(logging.WARNING):
        diagnostics = fit(chosen, train).provenance["diagnostics"]
    assert diagnostics["component_rank"] == rank
    sentence = f"the rows of a component span {rank} of 16 dimensions: extract more of them"
    assert warnings_of(diagnostics, {}) == (sentence,)
    assert f"gmm: a component has a covariance of rank {rank} in 16 dimensions" in caplog.text
    assert "of 240 rows): the ridge decides in the others" in caplog.text


def test_components_of_a_single_row_are_told(blobs, caplog):
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("gmm", components=12), blobs.train.rows(slice(12)).latents())
    assert fitted.provenance["diagnostics"]["component_rank"] == 0
    assert "(the smallest covers 1.0 of 12 rows)" in caplog.text
    assert bool(fitted.score(blobs.far.latents()).isfinite().all())


def test_a_fit_that_does_not_converge_is_logged(blobs, caplog):
    with caplog.at_level(logging.WARNING):
        fitted = fit(
            detector("gmm", components=6, iterations=1, tolerance=1e-12), blobs.train.latents()
        )
    assert fitted.provenance["diagnostics"]["converged"] is False
    assert "did not converge" in caplog.text


def test_fewer_rows_than_components_are_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("gmm", components=9), blobs.train.rows(slice(8)).latents())
    assert str(caught.value) == (
        "gmm: components must be ≤ the 8 rows it is fitted to, and these ≥ 2, got 9; lower "
        'components, raise share or extract more of "train"'
    )


@pytest.mark.parametrize("standardise", [True, False])
def test_rows_without_spread_are_refused(standardise):
    train = Latents(features={"penultimate": torch.full((30, 3), 0.1)}, name="train")
    with pytest.raises(DetectorError, match=r"^gmm: features/penultimate must vary .* without spr"):
        fit(detector("gmm", components=2, standardise=standardise), train)


def test_singular_components_without_a_ridge_are_refused(blobs):
    chosen = detector("gmm", components=4, ridge=0.0, covariance="full")
    with pytest.raises(DetectorError) as caught:
        fit(chosen, blobs.train.rows(slice(20)).latents())
    assert str(caught.value) == (
        "gmm: features/penultimate must give components of full rank with ridge=0, got singular "
        "ones; raise ridge, lower components or choose covariance=diag"
    )


def test_a_share_of_the_rows_is_fitted_to(blobs):
    mixture = fit(detector("gmm", components=1, share=0.5), blobs.train.latents())
    assert mixture.provenance["diagnostics"]["fewest_rows"] == 120.0


def test_scoring_needs_no_scikit_learn(blobs, monkeypatch):
    fitted = fit(detector("gmm", components=2), blobs.train.latents())
    monkeypatch.setitem(__import__("sys").modules, "sklearn.mixture", None)
    assert len(fitted.score(blobs.far.latents())) == 80
