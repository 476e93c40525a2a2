"""Head, neighbour and Gram scores beside those of pytorch-ood 0.4.0, where it follows the paper."""

import math

import pytest
import torch
from torch import nn

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.detectors.statistics.bounds import deviations
from latentood.extraction.model.reductions import Gram
from latentood.latents import Latents
from tests.parity.peers import assert_same, both, head_of, ours

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


def penultimate(blobs) -> torch.Tensor:
    return both(blobs, "features")


def test_fdbd(single):
    theirs = peer.fDBD(None, head_of(single.train)).fit_features(single.train.features)
    assert_same(ours(single, "fdbd"), theirs.predict_features(penultimate(single)))


@pytest.mark.parametrize("alpha", [1e-4, 0.5])
def test_nci(single, alpha):
    theirs = peer.NCI(None, head_of(single.train), alpha=alpha)
    theirs.fit_features(single.train.features)
    assert_same(ours(single, "nci", alpha=alpha), theirs.predict_features(penultimate(single)))


def test_gradnorm_is_theirs_times_the_classes(single):
    """Theirs averages the loss over classes; ours, as the authors' code, sums it."""
    theirs = peer.GradNorm(head_of(single.train), param_filter=lambda name: name == "weight")
    classes = single.train.logits.shape[1]
    assert_same(ours(single, "gradnorm"), classes * theirs.predict(penultimate(single)))


def test_pnml_is_theirs_times_log_classes(single):
    theirs = peer.PNML(None, head_of(single.train))
    theirs.fit_features(single.train.features, single.train.labels)
    log_classes = math.log(single.train.logits.shape[1])
    assert_same(ours(single, "pnml"), log_classes * theirs.predict_features(penultimate(single)))


def test_pnml_sees_rows_outside_the_span_where_theirs_does_not(single):
    """A row at right angles to all fit rows can be given any label; theirs has no regret there."""

    def flat(arrays):
        features = arrays.features.clone()
        features[:, -1] = 0.0
        return features

    theirs = peer.PNML(None, head_of(single.train))
    theirs.fit_features(flat(single.train), single.train.labels)
    outside = torch.eye(16)[-1:]
    assert float(theirs.predict_features(outside)) < 1e-6

    train = single.train.rows(slice(None))
    object.__setattr__(train, "features", flat(train))
    rows = single.far.rows(slice(1))
    object.__setattr__(rows, "features", outside)
    weight, bias = (t.double() for t in train.head)
    p = (weight[:, -1] + bias).softmax(dim=0)
    regret = float(fit(detector("pnml"), train.latents()).score(rows.latents()))
    assert regret == pytest.approx(math.log(float((1 / (2 - p)).sum())), rel=1e-9)
    assert regret > 0.1


@pytest.mark.parametrize("k", [1, 100])
def test_nnguide(single, k):
    theirs = peer.NNGuide(None, head_of(single.train), k=k)
    theirs.fit_features(single.train.features, single.train.labels)
    assert_same(ours(single, "nnguide", k=k), theirs.predict_features(penultimate(single)))


def test_nac_is_theirs_with_the_equal_bins_of_the_paper(monkeypatch):
    """Theirs makes bins finer towards 0 and 1; with equal ones its backward passes give ours.

    In double, with 51 bins (with 50, the ½ of a unit without a say would be an edge) and mild
    logits: theirs takes the log of p + 1e-12, which loses the slope of sure predictions.
    """
    from pytorch_ood.detector import nac

    monkeypatch.setattr(nac, "_bin_indices_geometric", nac._bin_indices)
    head = nn.Linear(16, 4).double()
    h = torch.randn(700, 16, dtype=torch.float64)
    train, rows = (
        Latents(
            logits=head(x).detach(),
            features={"penultimate": x},
            head=(head.weight.detach(), head.bias.detach()),
        )
        for x in (h[:500], h[500:])
    )
    layer = nn.Identity()
    theirs = peer.NACUE(nn.Sequential(layer, head), [layer], m_bins=51, alpha=9.0, o_star=20)
    theirs.fit([h[:500].requires_grad_()])
    expected = theirs.predict(h[500:].requires_grad_())
    scores = fit(detector("nac", bins=51, steepness=9.0, r=20 * 51 / 500), train).score(rows)
    assert len(scores.unique()) > 100
    # Coverage has few values, so ties in float32 would spoil the ranks if they were not rounded.
    assert_same((scores * 1e6).round(), (expected.double() * 1e6).round())


def test_gram_deviations(single):
    """Theirs adds 1e-6 inside the bars, ours outside: the same where bounds are above 0."""
    rows = both(single, "gram").double()
    low, high = (f(single.train.gram.double(), dim=0) for f in (torch.amin, torch.amax))
    shared = low > 0
    theirs = peer.Gram._deviation(rows[:, shared], low[shared], high[shared])
    deviation = deviations(rows[:, shared], low[shared].expand_as(rows[:, shared]),
                       high[shared].expand_as(rows[:, shared]))  # fmt: skip
    assert int(shared.sum()) > 10
    assert torch.allclose(deviation, theirs, rtol=1e-9)


def test_gram_matrices_are_rooted_before_their_rows_are_summed_where_theirs_are_after():
    maps = torch.rand(3, 4, 5, 5, dtype=torch.float64)
    flat = maps.flatten(2)
    for power in (1, 2, 3):
        ours = Gram().apply(maps)[:, 4 * (power - 1) : 4 * power]
        product = flat**power @ (flat**power).transpose(1, 2)
        assert torch.allclose(ours, (product ** (1 / power)).sum(dim=2))
        theirs = peer.Gram._gram_vector(maps, power)
        assert torch.allclose(theirs, product.sum(dim=2) ** (1 / power))
        assert torch.allclose(ours, theirs) == (power == 1)
