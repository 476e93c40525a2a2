"""Logit scores beside those of pytorch-ood 0.4.0, which computes in float32."""

import pytest
import torch
from scipy.stats import spearmanr

from latentood.detectors.fitted import Fitted, fit
from latentood.detectors.registry import detector
from latentood.latents import Latents
from latentood.stats.distributions.weibull import fit_weibulls
from latentood.testing.blobs import Blobs, make_blobs
from tests.parity.peers import assert_same

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


@pytest.fixture(scope="module")
def mild() -> Blobs:
    """Blobs whose logits are small enough that no probability is clamped in float32."""
    blobs = make_blobs(rows=1200, scored=400)
    for split in (blobs.train, blobs.id, blobs.far):
        split.logits.div_(4)
    return blobs


def fitted(blobs: Blobs, name: str, **options) -> Fitted:
    return fit(detector(name, **options), blobs.train.latents(), blobs.id.latents("val"))


def test_kl_matching(mild):
    theirs = peer.KLMatching(None).fit_logits(mild.id.logits)
    for rows in (mild.id, mild.far):
        scores = fitted(mild, "kl_matching").score(rows.latents())
        assert_same(scores, theirs.predict_logits(rows.logits))


@pytest.mark.parametrize(("top", "counted"), [(100, 4), (2, 2)])
def test_gen_is_their_mean_times_the_number_of_classes(mild, top, counted):
    theirs = peer.GEN(None, gamma=0.1, M=top).predict_logits(mild.far.logits)
    assert_same(fitted(mild, "gen", top=top).score(mild.far.latents()), counted * theirs)


def test_gen_still_ranks_where_theirs_has_clamped():
    logits = torch.tensor([[20.0, 0.0, 0.0], [30.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    ours = fit(detector("gen"), Latents(logits=logits)).score(Latents(logits=logits))
    assert len(peer.GEN(None).predict_logits(logits).unique()) == 1
    assert ours[0] > ours[1] > ours[2]


def test_weighted_energy(mild):
    weights = (0.5, 2.0, -1.0, 3.0)
    theirs = peer.WeightedEBO(None, torch.tensor(weights)).predict_logits(mild.far.logits)
    assert_same(fitted(mild, "weighted_energy", weights=weights).score(mild.far.latents()), theirs)


@pytest.mark.parametrize(("name", "temperature"), [("odin_eps0", 1000.0), ("mcm", 1.0)])
def test_scaled_softmax(mild, name, temperature):
    theirs = peer.MaxSoftmax(None, t=temperature).predict_logits(mild.far.logits)
    assert_same(fitted(mild, name).score(mild.far.latents()), theirs)


def test_temperature_scaling_goes_on_to_the_minimum_where_theirs_stops(mild):
    theirs = peer.TemperatureScaling(None).fit_logits(mild.id.logits, mild.id.labels)
    ours = fitted(mild, "temp_scaling")
    temperature = ours.provenance["diagnostics"]["temperature"]

    def loss(t: float) -> float:
        return float(torch.nn.functional.cross_entropy(mild.id.logits / t, mild.id.labels))

    assert loss(temperature) <= loss(theirs.t.item())
    assert temperature == pytest.approx(theirs.t.item(), rel=0.05)
    theirs.t.data.fill_(temperature)
    assert_same(ours.score(mild.far.latents()), theirs.predict_logits(mild.far.logits))


def test_openmax_leaves_misclassified_rows_out_where_theirs_counts_them(mild):
    """Bendale and Boult, algorithm 1: mean and distances of correctly classified rows."""
    wrong = mild.train.logits.argmax(dim=1) != mild.train.labels
    spoilt = mild.train.logits.clone()
    spoilt[wrong] *= 100
    ours, theirs = [], []
    for logits in (mild.train.logits, spoilt):
        train = Latents(logits=logits, labels=mild.train.labels)
        ours.append(fit(detector("openmax", alpha=3), train).score(mild.far.latents()))
        model = peer.OpenMax(None, tailsize=20, alpha=3).fit_logits(logits, mild.train.labels)
        theirs.append(model.predict_logits(mild.far.logits))
    torch.testing.assert_close(*ours, rtol=1e-9, atol=0)
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3


def test_weibull_parameters_are_theirs_at_the_location_they_choose():
    """They move a tail to begin at 10,000, a constant of one version of libMR; we leave it."""
    notmr = pytest.importorskip("pytorch_ood.detector.openmax.libnotmr")
    distances = torch.rand(500, dtype=torch.float64).square() * 9
    theirs = notmr.LibNotMR(tailsize=20)
    theirs.fit_high(distances.numpy())
    tail = distances.topk(20).values
    ours = fit_weibulls((tail - tail.min() + 10_000).unsqueeze(0))
    assert theirs.c == pytest.approx(float(ours.shape), rel=1e-3)
    assert theirs.scale == pytest.approx(float(ours.log_scale.exp()), rel=1e-6)


def test_openmax_is_close_to_theirs_on_correctly_classified_rows(mild):
    """What is left is the location of the Weibull, which matters below the tail only."""
    right = mild.train.rows(mild.train.logits.argmax(dim=1) == mild.train.labels)
    theirs = peer.OpenMax(None, tailsize=20, alpha=3).fit_logits(right.logits, right.labels)
    expected = theirs.predict_logits(mild.far.logits)
    scores = fit(detector("openmax", alpha=3), right.latents()).score(mild.far.latents())
    assert (scores - expected).abs().max() < 0.05
    assert spearmanr(scores, expected).statistic > 0.99
