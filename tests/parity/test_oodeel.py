"""Our scores beside those of oodeel 0.4.0, where that follows the paper, and where it does not.

It runs a model: here one that hands features on to a linear head, in float64 where it can.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import Arrays, Blobs
from tests.parity.peers import assert_same, both, head_of, ours

sys.path.append(str(Path(sys.prefix) / "peers"))  # where `make test` installs it, by itself
with warnings.catch_warnings():  # on import it warns of its own deprecated modules
    warnings.simplefilter("ignore")
    peer = pytest.importorskip("oodeel.methods", reason="oodeel is not there; see make test")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:oodeel")


@pytest.fixture(scope="module")
def positive(single) -> Blobs:
    """Features as after a ReLU, and logits in float64 as theirs come from them."""

    def passed_on(split: Arrays) -> Arrays:
        features = split.features.relu()
        weight, bias = (part.double() for part in split.head)
        return replace(split, features=features, logits=features.double() @ weight.T + bias)

    return Blobs(*(passed_on(split) for split in (single.train, single.id, single.far)))


def theirs(blobs, detector, *, features: bool = False, dtype=torch.float64) -> torch.Tensor:
    """Fit theirs on the fit rows, and score the ID and the far rows."""
    model = nn.Sequential(nn.Identity(), head_of(blobs.train)).to(dtype).eval()
    known = TensorDataset(blobs.train.features.to(dtype), blobs.train.labels)
    rows = DataLoader(known, batch_size=100)
    detector.fit(model, fit_dataset=rows, feature_layers_id=[0] if features else [])
    batches = [detector.score(part)[0] for part in both(blobs, "features").to(dtype).split(50)]
    return torch.from_numpy(np.concatenate(batches))


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("msp", {}, lambda: peer.MLS(output_activation="softmax")),
        ("max_logit", {}, lambda: peer.MLS()),
        ("energy", {}, lambda: peer.Energy()),
        ("entropy", {}, lambda: peer.Entropy()),
        ("gen", {}, lambda: peer.GEN()),
        ("gen", {"gamma": 0.5, "top": 2}, lambda: peer.GEN(gamma=0.5, k=2)),
        # Of 16 features, 75% and 90% leave the same number to theirs, which interpolates.
        ("scale", {"percentile": 75.0}, lambda: peer.Energy(use_scale=True, scale_percentile=0.75)),
        (
            "scale",
            {"percentile": 75.0, "logit_score": "max_logit"},
            lambda: peer.MLS(use_scale=True, scale_percentile=0.75),
        ),
        ("ash_s", {}, lambda: peer.Energy(use_ash=True)),
    ],
)
def test_scores_of_logits_and_shaped_features(positive, name, options, reference):
    assert_same(ours(positive, name, **options), theirs(positive, reference()))


@pytest.mark.parametrize("share", [0.8, 0.95])
def test_react_from_the_same_rows(single, share):
    """Theirs takes the percentile over the fit rows; ours over ID val rows, as the paper does."""
    fitted = fit(
        detector("react", percentile=100 * share), single.train.latents(), single.train.latents()
    )
    scores = torch.cat([fitted.score(rows.latents()) for rows in (single.id, single.far)])
    assert_same(scores, theirs(single, peer.Energy(use_react=True, react_quantile=share)))


def test_mahalanobis_and_rmd_are_twice_theirs(single):
    """Theirs have a factor ½, and a pseudo-inverse instead of a ridge."""
    for name, reference in (("mahalanobis", peer.Mahalanobis), ("rmd", peer.RMDS)):
        scores = ours(single, name, ridge=0.0)
        assert_same(scores, 2 * theirs(single, reference(eps=0.0), features=True))


@pytest.mark.parametrize("k", [1, 50, 200])
def test_knn_is_the_root_of_theirs(single, k):
    """Theirs is what FAISS gives: the square of the distance."""
    scores = ours(single, "knn", k=k, metric="squared_euclidean")
    assert_same(scores, theirs(single, peer.DKNN(nearest=k), features=True, dtype=torch.float32))


def test_vim_measures_from_where_all_logits_are_0_and_theirs_from_the_mean(single):
    """Its ``pca_origin="pseudo"`` asks for layer −1, which it never reaches: always the mean."""
    scores = ours(single, "vim", dim=8)
    for origin in ("center", "pseudo"):
        reference = theirs(single, peer.VIM(princ_dims=8, pca_origin=origin), features=True)
        assert spearmanr(scores, reference).statistic < 0.999


def test_she_compares_with_the_predicted_class_and_theirs_with_the_best_pattern(single):
    """Zhang et al. 2023, eq. 5, take the pattern of the predicted class."""
    scores = ours(single, "she")
    reference = single.train.features.shape[1] * theirs(single, peer.SHE(eps=0.0), features=True)
    same = (scores - reference).abs() <= 1e-5 * reference.abs().max()
    assert 0 < int((~same).sum()) < len(scores) / 2
    assert bool((reference[~same] < scores[~same]).all()), "the best pattern is a nearer one"
