"""Densities and borders beside scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.svm import OneClassSVM

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.latents import Latents
from latentood.testing.blobs import Blobs, make_blobs
from latentood.testing.detector_contract import assert_close
from tests.parity.peers import ours


@pytest.fixture(scope="module")
def many() -> Blobs:
    return make_blobs(rows=1200, scored=200)


def both(blobs: Blobs) -> np.ndarray:
    return torch.cat([blobs.id.features, blobs.far.features]).numpy()


def assert_same(scores: torch.Tensor, expected: np.ndarray) -> None:
    assert_close(scores, expected)
    assert spearmanr(scores, expected).statistic > 1 - 1e-12


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
def test_kde_where_its_tree_is_one_leaf(many, bandwidth):
    """With its usual leaves it stops early: at bandwidth 0.3 it is off by tens of nats here."""
    rows = many.train.features.numpy()
    theirs = KernelDensity(bandwidth=bandwidth, rtol=0, atol=0, leaf_size=len(rows)).fit(rows)
    assert_same(ours(many, "kde", bandwidth=bandwidth), -theirs.score_samples(both(many)))


@pytest.mark.parametrize("k", [5, 20, 100])
def test_lof_of_new_rows_and_of_those_it_was_fitted_on(many, k):
    h = many.train.features.numpy()
    theirs = LocalOutlierFactor(k, novelty=True, algorithm="brute").fit(h)
    assert_same(ours(many, "lof", k=k), -theirs.score_samples(both(many)))
    train = many.train.latents()
    own = fit(detector("lof", k=k), train).score(train)
    assert_same(own, -theirs.negative_outlier_factor_)


@pytest.mark.parametrize("options", [{}, {"trees": 30, "subsample": 64, "seed": 5}], ids=str)
def test_isolation_forest(many, options):
    theirs = IsolationForest(
        n_estimators=options.get("trees", 100),
        max_samples=options.get("subsample", 256),
        random_state=options.get("seed", 0),
    ).fit(many.train.features.numpy())
    assert_same(ours(many, "isolation_forest", **options), -theirs.score_samples(both(many)))


def test_isolation_forest_of_constant_and_tied_columns():
    rows, far = torch.randn(300, 5), torch.randn(80, 5).round(decimals=1)
    rows[:, 1] = 0.1
    rows[:, 2] = rows[:, 0].round()
    theirs = IsolationForest(random_state=0).fit(rows.numpy())
    fitted = fit(detector("isolation_forest"), Latents(features={"penultimate": rows}))
    scores = fitted.score(Latents(features={"penultimate": far}))
    assert_close(scores, -theirs.score_samples(far.numpy()))


def test_isolation_forest_of_rows_a_hair_above_a_threshold():
    """It rounds rows to float32, which takes half of them back below."""
    rows = torch.randn(300, 5, dtype=torch.float64)
    theirs = IsolationForest(random_state=0).fit(rows.numpy())
    trees = [estimator.tree_ for estimator in theirs.estimators_]
    beside = rows[:100].clone()
    for row, tree in zip(beside, trees, strict=True):
        row[tree.feature[0]] = np.nextafter(tree.threshold[0], np.inf)
    fitted = fit(detector("isolation_forest"), Latents(features={"penultimate": rows}))
    scores = fitted.score(Latents(features={"penultimate": beside}))
    assert_close(scores, -theirs.score_samples(beside.numpy()))


@pytest.mark.parametrize("options", [{}, {"nu": 0.1, "gamma": 0.2}], ids=str)
def test_one_class_svm(many, options):
    theirs = OneClassSVM(nu=options.get("nu", 0.5), gamma=options.get("gamma", "scale"))
    theirs.fit(many.train.features.numpy())
    assert_same(ours(many, "one_class_svm", **options), -theirs.score_samples(both(many)))


def test_kernel_density_in_many_dimensions_is_exact_where_a_tree_is_not():
    """Brute force is the oracle there; see the definition of kde."""
    draw = torch.Generator().manual_seed(0)
    bank, rows = (torch.randn(n, 256, generator=draw, dtype=torch.float64) for n in (300, 20))
    fitted = fit(detector("kde", bandwidth=1.0), Latents(features={"penultimate": bank}))
    scores = fitted.score(Latents(features={"penultimate": rows}))
    logs = -(rows.unsqueeze(1) - bank).square().sum(dim=2) / 2
    norm = 128 * np.log(2 * np.pi) + np.log(300)
    assert_close(scores, (norm - logs.logsumexp(dim=1)).numpy())
