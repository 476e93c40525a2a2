"""Activation shaping beside that of pytorch-ood 0.4.0, which computes in float32.

It reshapes feature maps, so ours become maps of one pixel; its percentages are fractions.
"""

import pytest
import torch
from torch import Tensor, nn

from latentood.detectors.fitted import Fitted, fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import Arrays, Blobs, make_blobs
from tests.parity.peers import assert_same, head_of

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


@pytest.fixture(scope="module")
def positive() -> Blobs:
    """Features > 0, no two of them equal: ties are where definitions differ."""
    blobs = make_blobs(rows=600, scored=200)
    for split in (blobs.train, blobs.id, blobs.far):
        split.features.abs_()
    return Blobs(*(split.cast(torch.float32) for split in (blobs.train, blobs.id, blobs.far)))


def fitted(blobs: Blobs, name: str, **options) -> Fitted:
    return fit(detector(name, **options), blobs.train.latents(), blobs.id.latents("val"))


def maps(arrays: Arrays) -> Tensor:
    return arrays.features[:, :, None, None]


def head(blobs: Blobs) -> nn.Module:
    return nn.Sequential(nn.Flatten(), head_of(blobs.train))


@pytest.mark.parametrize("percentile", [60.0, 90.0])
def test_react(positive, percentile):
    theirs = peer.ReAct(None, head(positive), percentile=percentile / 100)
    theirs.fit_feature_maps(maps(positive.id), positive.id.labels)
    ours = fitted(positive, "react", percentile=percentile)
    assert float(ours.state["clip"]) == pytest.approx(theirs.threshold, rel=1e-6)
    expected = theirs.predict_feature_maps(maps(positive.far))
    assert_same(ours.score(positive.far.latents()), expected)


@pytest.mark.parametrize("sparsity", [35.0, 90.0])
def test_dice(positive, sparsity):
    theirs = peer.DICE(None, *positive.train.head, p=sparsity / 100)
    theirs.fit_features(positive.train.features, positive.train.labels)
    ours = fitted(positive, "dice", sparsity=sparsity).score(positive.far.latents())
    assert_same(ours, theirs.predict_features(positive.far.features))


@pytest.mark.parametrize("name", ["ash_p", "ash_b", "ash_s"])
@pytest.mark.parametrize("percentile", [65.0, 90.0])
def test_ash(positive, name, percentile):
    variant = name.replace("_", "-")
    theirs = peer.ASH(None, head(positive), variant, percentile=percentile / 100)
    ours = fitted(positive, name, percentile=percentile).score(positive.far.latents())
    assert_same(ours, theirs.predict_feature_maps(maps(positive.far)))


@pytest.mark.parametrize("percentile", [65.0, 85.0])
def test_scale(positive, percentile):
    theirs = peer.SCALE(None, head(positive), percentile=percentile / 100)
    ours = fitted(positive, "scale", percentile=percentile).score(positive.far.latents())
    assert_same(ours, theirs.predict_feature_maps(maps(positive.far)))


@pytest.mark.parametrize("top", [5.0, 40.0])
def test_lts(top):
    blobs = make_blobs(rows=600, scored=200)
    theirs = peer.LTS(None, head_of(blobs.train.cast(torch.float32)), p=top / 100)
    ours = fitted(blobs, "lts", top=top).score(blobs.far.latents())
    assert_same(ours, theirs.predict_features(blobs.far.features.float()))


def test_ash_b_spreads_over_active_units_where_theirs_takes_some_inactive_ones(positive):
    """Djurisic et al., algorithm of ASH-B: the count is that of the units not set to zero."""
    sparse = torch.zeros(3, 16)
    sparse[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    rows = Arrays(**(positive.far.rows(slice(3)).__dict__ | {"features": sparse}))
    theirs = peer.ASH(None, head(positive), "ash-b", percentile=0.65)
    weight, bias = positive.train.head
    expected = -torch.logsumexp(sparse.double() @ weight.double().T + bias.double(), dim=1)
    ours = fitted(positive, "ash_b").score(rows.latents())
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    assert (theirs.predict_feature_maps(maps(rows)) - expected).abs().max() > 0.01


def test_vra_silences_low_activations_where_theirs_lifts_them_to_the_threshold(positive):
    """Xu et al., VRA-P: 0 below α; with α the smallest value of the rows, both are the same."""
    theirs = peer.VRA(None, head(positive), lower_percentile=0.0, upper_percentile=0.95)
    theirs.fit_feature_maps(maps(positive.id), positive.id.labels)
    ours = fitted(positive, "vra", low=0.0, per_unit=True)
    known = positive.id.latents()
    assert_same(ours.score(known), theirs.predict_feature_maps(maps(positive.id)))

    ours = fitted(positive, "vra", low=60.0, per_unit=True)
    low, high = ours.state["low"], ours.state["high"]
    h = positive.far.features.double()
    shaped = torch.where(h < low, 0.0, h.minimum(high))
    weight, bias = (t.double() for t in positive.train.head)
    expected = -torch.logsumexp(shaped @ weight.T + bias, dim=1)
    torch.testing.assert_close(ours.score(positive.far.latents()), expected, rtol=1e-12, atol=1e-12)
