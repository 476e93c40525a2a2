"""Mixtures of Gaussians beside pytorch-ood 0.4.0 and scikit-learn, where these follow the paper."""

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.mixture import GaussianMixture

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import Blobs, make_blobs
from latentood.testing.detector_contract import assert_close
from tests.parity.peers import ours

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


@pytest.fixture(scope="module")
def many() -> Blobs:
    return make_blobs(rows=1200, scored=200)


def both(blobs: Blobs) -> torch.Tensor:
    return torch.cat([blobs.id.features, blobs.far.features])


def test_ddu_is_the_mixture_of_class_gaussians_with_shares_and_the_divisor_n(many):
    """Its GMM is ddu: one Gaussian per class. Its absolute ridge is set to 0."""
    theirs = peer.GMM(None, reg=0.0).fit_features(many.train.features, many.train.labels)
    expected = theirs.predict_features(both(many))
    assert_close(ours(many, "ddu", unbiased=False), expected.numpy())


def test_ddu_of_the_authors_code_divides_by_n_less_one_and_leaves_shares_out(many):
    """In the words of the paper, with torch's distribution in place of our factors."""
    labels, rows = many.train.labels, many.train.features
    groups = [rows[labels == c] for c in range(4)]
    gaussians = torch.distributions.MultivariateNormal(
        torch.stack([h.mean(dim=0) for h in groups]), torch.stack([torch.cov(h.T) for h in groups])
    )
    expected = -gaussians.log_prob(both(many).unsqueeze(1)).logsumexp(dim=1)
    assert_close(ours(many, "ddu", priors=False), expected.numpy())


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_gmm_scores_as_scikit_learn_does(many, covariance):
    rows = many.train.features.numpy()
    model = GaussianMixture(
        5,
        covariance_type=covariance,
        reg_covar=1e-6 * float(rows.var(axis=0).mean()),
        random_state=0,
    ).fit(rows)
    options = {"covariance": covariance, "standardise": False, "tolerance": 1e-3 / rows.shape[1]}
    scores = ours(many, "gmm", components=5, **options)
    expected = -model.score_samples(both(many).numpy())
    assert_close(scores, expected)
    assert spearmanr(scores, expected).statistic > 1 - 1e-12


def test_a_jitter_of_rounding_size_lets_rounding_decide(many):
    """The authors start at 1e-308: what passes a Cholesky then scores as rounding has it."""
    labels = many.train.labels
    rows = many.train.features.clone()
    rows[:, 3] = rows[:, 2]  # a dimension twice
    covs = torch.stack([torch.cov(rows[labels == c].T) for c in range(4)])
    jitters = [0.0, *(10.0**e for e in range(-308, 0))]
    passing = next(
        j for j in jitters
        if not torch.linalg.cholesky_ex(covs + j * torch.eye(16).double()).info.any()
    )  # fmt: skip
    assert passing < 1e-12
    spoilt = many.train
    object.__setattr__(spoilt, "features", rows)
    diagnostics = fit(detector("ddu"), spoilt.latents()).provenance["diagnostics"]
    assert diagnostics["class_rank"] == 15
    assert diagnostics["jitter"] == 1e-6
