import logging

import pytest
import torch
from sklearn.covariance import EmpiricalCovariance

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.detector_contract import assert_close
from tests.parity.agreement import assert_agrees

GAUSSIANS = ["mahalanobis", "rmd"]


def gaussian_latents(features, labels, name="train"):
    return Latents(features={"penultimate": features}, labels=labels, name=name)


@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_any_ridge_agrees_with_the_slow_formula(blobs, name, ridge):
    assert_agrees(blobs, name, ridge=ridge)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_entropies_do_as_features(blobs, name):
    assert_agrees(blobs, name, layer="mc.entropy/penultimate")


def test_one_class_gives_the_distance_scikit_learn_gives(blobs):
    h = blobs.train.features
    train = gaussian_latents(h, torch.zeros(len(h), dtype=torch.int64))
    fitted = fit(detector("mahalanobis", ridge=0.0), train)
    theirs = EmpiricalCovariance().fit(h.numpy()).mahalanobis(blobs.far.features.numpy())
    assert_close(fitted.score(blobs.far.latents()), theirs)


def test_the_relative_distance_of_one_class_is_zero(blobs):
    h = blobs.train.features
    train = gaussian_latents(h, torch.zeros(len(h), dtype=torch.int64))
    assert fit(detector("rmd"), train).score(blobs.far.latents()).abs().max() < 1e-9


def test_the_distance_does_not_depend_on_scale_offset_or_rotation_of_features(blobs):
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    scores = []
    for change in (lambda h: h, lambda h: 1e4 * h @ turn - 7e5):
        train = gaussian_latents(change(blobs.train.features), blobs.train.labels)
        rows = gaussian_latents(change(blobs.far.features), blobs.far.labels)
        scores.append(fit(detector("mahalanobis"), train).score(rows))
    torch.testing.assert_close(*scores, rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_labels_may_be_any_numbers_that_tell_classes_apart(blobs, name):
    plain, sparse = (
        gaussian_latents(blobs.train.features, labels)
        for labels in (blobs.train.labels, blobs.train.labels * 10**12)
    )
    rows = blobs.far.latents()
    assert torch.equal(*(fit(detector(name), train).score(rows) for train in (plain, sparse)))


def test_the_rank_is_reported_and_a_short_one_is_logged(blobs, caplog):
    with caplog.at_level(logging.WARNING):
        full = fit(detector("mahalanobis"), blobs.train.latents())
    assert full.provenance["diagnostics"].items() >= {"rank": 16, "width": 16, "classes": 4}.items()
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        short = fit(detector("mahalanobis"), blobs.train.rows(slice(12)).latents())
    assert short.provenance["diagnostics"]["rank"] == 8
    assert "rank 8 in 16 dimensions over the 12 rows of 'train'" in caplog.text


@pytest.mark.parametrize("name", GAUSSIANS)
def test_a_short_rank_without_a_ridge_is_refused(blobs, name):
    with pytest.raises(DetectorError) as caught:
        fit(detector(name, ridge=0.0), blobs.train.rows(slice(12)).latents())
    assert str(caught.value) == (
        f"{name}: features/penultimate must have a covariance of full rank 16 without a ridge, "
        'got rank 8 from 12 rows of "train"; set ridge=1e-6 or extract more rows'
    )


@pytest.mark.parametrize("name", GAUSSIANS)
def test_rows_without_spread_are_refused(name):
    train = gaussian_latents(torch.full((6, 3), 0.1), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(DetectorError) as caught:
        fit(detector(name), train)
    assert str(caught.value) == (
        f"{name}: features/penultimate must vary between the rows of a fit, got 6 rows of "
        '"train" without spread; extract more rows or choose another layer'
    )


def test_many_classes_of_few_rows_each_are_no_trouble():
    labels = torch.arange(300) // 2
    h = torch.randn(300, 4, dtype=torch.float64) + labels.unsqueeze(1)
    scores = fit(detector("mahalanobis"), gaussian_latents(h, labels)).score(
        gaussian_latents(h, labels)
    )
    assert bool((scores >= 0).all())
