"""Our scores beside those of pytorch-ood 0.4.0, where that follows the paper.

It computes in float32, so values agree to 1e-5 of their size once its constants are taken out.
"""

import pytest

from tests.parity.peers import Replay, assert_same, both, head_of, ours

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("msp", {}, lambda: peer.MaxSoftmax(None)),
        ("msp", {"temperature": 2.0}, lambda: peer.MaxSoftmax(None, t=2.0)),
        ("max_logit", {}, lambda: peer.MaxLogit(None)),
        ("energy", {}, lambda: peer.EnergyBased(None)),
        ("energy", {"temperature": 3.0}, lambda: peer.EnergyBased(None, t=3.0)),
    ],
)
def test_logit_scores(single, name, options, reference):
    theirs = reference().predict_logits(both(single, "logits").double())
    assert_same(ours(single, name, **options), theirs)


def test_entropy_but_for_the_probabilities_it_clips(single):
    """It clips p at 1e-7, which adds up to (C−1)·1.6e-6 nats."""
    theirs = peer.Entropy(None).predict_logits(both(single, "logits").double())
    scores = ours(single, "entropy")
    assert (scores - theirs).abs().max() < 3 * 1.7e-6
    sure = both(single, "logits").double().softmax(dim=1).amin(dim=1) > 1e-7
    assert_same(scores[sure], theirs[sure])


def test_mahalanobis_is_theirs_times_two_n(single):
    """Theirs has a factor ½ and does not divide the scatter by N; its ridge is absolute."""
    theirs = peer.Mahalanobis(None).fit_features(single.train.features, single.train.labels)
    scale = 2 * len(single.train.labels)
    scores = ours(single, "mahalanobis", ridge=0.0)
    assert_same(scores, scale * theirs.predict_features(both(single, "features")))


def test_rmd_is_theirs_times_n(single):
    theirs = peer.RMD(None).fit_features(single.train.features, single.train.labels)
    scale = len(single.train.labels)
    scores = ours(single, "rmd", ridge=0.0)
    assert_same(scores, scale * theirs.predict_features(both(single, "features")))


@pytest.mark.parametrize("dim", [4, 8, 12])
def test_vim(single, dim):
    theirs = peer.ViM(None, dim, *single.train.head)
    theirs.fit_features(single.train.features, single.train.labels)
    assert_same(ours(single, "vim", dim=dim), theirs.predict_features(both(single, "features")))


def test_vim_refuses_a_subspace_as_wide_as_the_features_where_theirs_scores_nonsense(single):
    """With d = D nothing is left over: α is a ratio to zero and every score is NaN."""
    theirs = peer.ViM(None, 16, *single.train.head)
    theirs.fit_features(single.train.features, single.train.labels)
    assert theirs.predict_features(both(single, "features")).isnan().all()
    with pytest.raises(ValueError, match="vim: dim must be < the width 16"):
        ours(single, "vim", dim=16)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("k", [1, 50, 200])
def test_knn(single, k, normalise):
    theirs = peer.KNN(None, k=k, normalize=normalise, algorithm="brute")
    theirs.fit_features(single.train.features, single.train.labels)
    scores = ours(single, "knn", k=k, normalise=normalise)
    assert_same(scores, theirs.predict_features(both(single, "features")))


def test_she(single):
    theirs = peer.SHE(None, head_of(single.train))
    theirs.fit_features(single.train.features, single.train.labels)
    assert_same(ours(single, "she"), theirs.predict_features(both(single, "features")))


def test_mcd_variance_is_theirs_with_the_divisor_t(single):
    """Theirs divides by T−1; ours by T. Its model is replaced by one that replays our passes."""

    passes = both(single, "mc_logits").double()
    t = passes.shape[1]
    theirs = peer.MCD(Replay(passes), samples=t, mode="var").predict(passes[:, 0])
    assert_same(ours(single, "mcd_variance"), theirs * (t - 1) / t)
