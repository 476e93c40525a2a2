"""ddu and ssd."""

import logging
import math

import pytest
import torch

from latentood.detectors import checks
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DataError, DetectorError
from latentood.evaluation.warnings import warnings_of
from latentood.latents import Latents
from latentood.testing.detector_contract import assert_close
from tests.parity.agreement import assert_agrees


def latents(features, labels, name="train"):
    return Latents(features={"penultimate": features}, labels=labels, name=name)


@pytest.mark.parametrize(
    "options",
    [
        {"priors": False},
        {"unbiased": False},
        {"layer": "mc.entropy/penultimate"},
    ],
    ids=str,
)
def test_every_option_of_ddu_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "ddu", **options)


@pytest.mark.parametrize("options", [{"normalise": False}, {"ridge": 0.0}, {"ridge": 0.5}], ids=str)
def test_every_option_of_ssd_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "ssd", **options)


def test_ssd_is_the_background_that_rmd_subtracts(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    nearest, relative, background = (
        fit(chosen, train).score(rows)
        for chosen in (
            detector("mahalanobis"), detector("rmd"), detector("ssd", normalise=False),
        )
    )  # fmt: skip
    torch.testing.assert_close(nearest - relative, background, rtol=1e-9, atol=1e-9)


def test_unit_features_make_ssd_blind_to_their_length(blobs):
    fitted = fit(detector("ssd"), blobs.train.latents())
    longer = Latents(features={"penultimate": 7.0 * blobs.far.features})
    assert_close(fitted.score(longer), fitted.score(blobs.far.latents()).numpy(), 1e-8)


def test_one_class_of_ddu_is_half_the_distance_of_ssd_and_a_constant(blobs):
    h = blobs.train.features
    train = latents(h, torch.zeros(len(h), dtype=torch.int64))
    density = fit(detector("ddu", unbiased=False), train).score(blobs.far.latents())
    distance = fit(detector("ssd", ridge=0.0, normalise=False), train).score(blobs.far.latents())
    _, log_det = torch.linalg.slogdet(torch.cov(h.T, correction=0))
    constant = 0.5 * (log_det + 16 * math.log(2 * math.pi))
    torch.testing.assert_close(density, distance / 2 + constant, rtol=1e-10, atol=1e-10)


def test_priors_count_large_classes_more(blobs):
    kept = (blobs.train.labels != 1) | (torch.arange(240) % 12 == 1)
    train = blobs.train.rows(kept).latents()
    even, weighted = (
        fit(detector("ddu", priors=p), train).score(blobs.id.latents()) for p in (False, True)
    )
    shares = torch.bincount(blobs.train.labels[kept]).double() / int(kept.sum())
    own = blobs.id.logits.argmax(dim=1)
    off = (weighted - even + shares[own].log()).abs()
    assert off.quantile(0.95) < 1e-2  # a few rows lie between two classes


def test_where_all_classes_have_full_rank_nothing_is_added(blobs, caplog):
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("ddu"), blobs.train.latents())
    assert fitted.provenance["diagnostics"] == {
        "class_rank": 16, "width": 16, "classes": 4, "fewest_rows": 54, "jitter": 0.0,
    }  # fmt: skip
    assert caplog.text == ""


@pytest.mark.parametrize("rows", [4, 12, 60])
def test_too_few_rows_per_class_are_told_by_rank_jitter_and_a_warning(blobs, caplog, rows):
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("ddu"), blobs.train.rows(slice(rows)).latents())
    diagnostics = fitted.provenance["diagnostics"]
    fewest = int(
        torch.bincount(blobs.train.labels[:rows])[blobs.train.labels[:rows].unique()].min()
    )
    assert diagnostics["class_rank"] == fewest - 1
    sentence = f"the rows of a class span {fewest - 1} of 16 dimensions: extract more of them"
    assert warnings_of(diagnostics, {}) == (sentence,)
    assert diagnostics["fewest_rows"] == fewest
    assert diagnostics["jitter"] == 1e-6
    assert f"rank {fewest - 1} in 16 dimensions over the {rows} rows of 'train'" in caplog.text
    scores = fitted.score(blobs.far.latents())
    assert bool(scores.isfinite().all())
    assert len(scores.unique()) == len(scores)


def test_the_jitter_grows_tenfold_until_all_classes_can_be_factored(blobs):
    features = blobs.train.features.clone()
    features[blobs.train.labels == 0] *= 1e6  # beside it, a millionth of the mean is nothing
    features[blobs.train.labels == 0, :3] = 0.0
    fitted = fit(detector("ddu", jitter=1e-18), latents(features, blobs.train.labels))
    jitter = fitted.provenance["diagnostics"]["jitter"]
    assert jitter > 1e-18
    assert math.isclose(math.log10(jitter), round(math.log10(jitter)), abs_tol=1e-9)
    assert bool(fitted.score(blobs.far.latents()).isfinite().all())


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (1e155, DataError, r"^train: .* must be within ±1e\+150, .* got [\d.]+e\+15\d in row 0; "),
        (1e72, DetectorError, r"^ddu: .* variances below 1e\+140, .* got [\d.]+e\+14\d; scale the"),
    ],
)
def test_features_whose_squares_overflow_are_refused(blobs, size, error, message):
    train = latents(size * blobs.train.features, blobs.train.labels)
    with pytest.raises(error, match=message):
        fit(detector("ddu"), train)


def test_the_density_does_not_depend_on_an_offset_of_the_features(blobs):
    scores = [
        fit(detector("ddu"), latents(blobs.train.features + offset, blobs.train.labels)).score(
            latents(blobs.far.features + offset, blobs.far.labels)
        )
        for offset in (0.0, 1e5)
    ]
    torch.testing.assert_close(*scores, rtol=1e-8, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_classes_without_spread_are_refused(value):
    labels = torch.arange(30) // 10
    train = latents(torch.full((30, 3), value).double() * (1 + labels.unsqueeze(1)), labels)
    with pytest.raises(DetectorError) as caught:
        fit(detector("ddu"), train)
    assert str(caught.value) == (
        "ddu: features/penultimate must vary between the rows of a class, got 30 rows of "
        '"train" without spread in their classes; extract more rows or choose another layer'
    )


def test_more_covariances_than_memory_are_refused_before_they_are_made(blobs, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: 1000)
    with pytest.raises(DetectorError, match=r"^ddu: .* ≤ the 1000 B that are free .* got about 25"):
        fit(detector("ddu"), blobs.train.latents())


def test_class_scatters_stream_over_blocks_in_any_class_order():
    labels = torch.arange(9000) // 3000
    rows = (
        torch.randn(9000, 3, dtype=torch.float64) * (1 + labels.unsqueeze(1))
        + 1e4 * labels[:, None]
    )
    fitted = fit(detector("ddu", unbiased=False), latents(rows, labels))
    for c, factor in enumerate(fitted.state["factors"]):
        inverse = torch.linalg.inv(torch.cov(rows[labels == c].T, correction=0))
        torch.testing.assert_close(factor @ factor.T, inverse, rtol=1e-9, atol=1e-12)
