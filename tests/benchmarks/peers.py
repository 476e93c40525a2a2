"""The rivals of single detectors: fit and score with other libraries, on arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from latentood.detectors.families.subspace.vim import paper_dim
from tests.benchmarks.arrays import Rows

Peer = Callable[[Rows, Rows], object]
"""Called with the rows to fit on and those to score."""


def linear(rows: Rows) -> nn.Linear:
    """Build the head of a classifier as a module."""
    weight, bias = rows.head
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.requires_grad_(False)


def _by_features(build: Callable[[Rows], Any]) -> Peer:
    """Race a detector of pytorch-ood that reads features."""

    def peer(train: Rows, asked: Rows) -> Tensor:
        fitted = build(train).fit_features(train.features, train.labels)
        return fitted.predict_features(asked.features)

    return peer


def _by_logits(build: Callable[[], Any]) -> Peer:
    """Race a detector of pytorch-ood that reads logits."""

    def peer(train: Rows, asked: Rows) -> Tensor:
        return build().fit_logits(train.logits, train.labels).predict_logits(asked.logits)

    return peer


def pytorch_ood(name: str) -> Peer:
    """Give the detector of pytorch-ood that is ours of that name, with our hyperparameters."""
    from pytorch_ood import detector as theirs

    def dim(train: Rows) -> int:
        return paper_dim(train.features.shape[1])

    peers = {
        "mahalanobis": _by_features(lambda train: theirs.Mahalanobis(None)),
        "rmd": _by_features(lambda train: theirs.RMD(None)),
        "vim": _by_features(lambda train: theirs.ViM(None, dim(train), *train.head)),
        "she": _by_features(lambda train: theirs.SHE(None, linear(train))),
        "dice": _by_features(lambda train: theirs.DICE(None, *train.head, p=0.9)),
        "kl_matching": _by_logits(lambda: theirs.KLMatching(None)),
        "openmax": _by_logits(lambda: theirs.OpenMax(None, tailsize=20, alpha=10)),
    }
    return peers[name]


def nearest_neighbours(train: Rows, asked: Rows) -> object:
    """Search the 50 nearest rows of length 1 by scikit-learn, all pairs."""
    from sklearn.neighbors import NearestNeighbors

    bank, queries = (nn.functional.normalize(rows.features).numpy() for rows in (train, asked))
    search = NearestNeighbors(n_neighbors=50, algorithm="brute", n_jobs=-1).fit(bank)
    return search.kneighbors(queries)[0][:, -1]


def bare_product(train: Rows, asked: Rows) -> None:
    """Multiply all pairs in float32 and keep nothing: what an exact search cannot go below."""
    _multiply_pairs(train.features, asked.features)


@cache
def _doubles(rows: Rows) -> Any:
    """Convert beforehand: a floor is what the products alone take."""
    return rows.features.double().numpy()


def covariance_products(whitenings: int) -> Peer:
    """Multiply in float64 what one covariance needs, on BLAS that knows symmetric products.

    Args:
        whitenings: How often the rows to score are multiplied by a matrix (D, D).
    """

    def floor(train: Rows, asked: Rows) -> None:
        fitted, scored = _doubles(train), _doubles(asked)
        whitener = fitted.T @ fitted
        for _ in range(whitenings):
            scored @ whitener

    return floor


def subspace_products(train: Rows, asked: Rows) -> None:
    """Multiply in float64 what a subspace and the residuals of all rows need."""
    fitted, scored = _doubles(train), _doubles(asked)
    left = (fitted.T @ fitted)[:, paper_dim(fitted.shape[1]) :]
    for rows in (fitted, scored):
        rows @ left


def pair_products(train: Rows, asked: Rows) -> None:
    """Multiply all pairs in float64 and keep nothing, as a kernel density must."""
    _multiply_pairs(*(torch.from_numpy(_doubles(rows)) for rows in (train, asked)))


def _multiply_pairs(bank: Tensor, queries: Tensor) -> None:
    out = torch.empty(2048, 8192, dtype=bank.dtype)
    for asked in queries.split(2048):
        for part in bank.split(8192):
            torch.mm(asked, part.T, out=out[: len(asked), : len(part)])


def empirical_covariance(train: Rows, asked: Rows) -> object:
    """Fit one Gaussian to entropies by scikit-learn, and measure distances under it."""
    from sklearn.covariance import EmpiricalCovariance

    return EmpiricalCovariance().fit(train.entropies.numpy()).mahalanobis(asked.entropies.numpy())


@cache
def _tree(train: Rows) -> Any:
    from sklearn.neighbors import KernelDensity

    return KernelDensity(bandwidth=1.0).fit(train.entropies.numpy())


def kernel_density(train: Rows, asked: Rows) -> object:
    """Score by scikit-learn's kernel density, whose tree was built before."""
    return _tree(train).score_samples(asked.entropies.numpy())
