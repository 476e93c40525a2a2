"""Slow formulas of detectors of latent entropies: those of features, on principal components."""

import math

import numpy as np

from latentood.testing.formulas import logsumexp, ridged, squared_distance
from tests.references.gaussian import mixture, standardised, tied_gaussian
from tests.references.registry import REFERENCES, reference


@reference("lar_knn")
def lar_knn(d, fit, rows, same):
    bank, queries = whitened(d, fit, rows, 1) if d.pca else (fit[d.key], rows[d.key])
    return REFERENCES["knn"](d, {d.key: bank}, {d.key: queries}, same)


@reference("lar_gmm")
def lar_gmm(d, fit, rows, same):
    if d.pca:
        return mixture(d, *whitened(d, fit, rows, 1), along_axes=True)
    e, queries = fit[d.key], rows[d.key]
    return mixture(d, *(standardised(e, queries) if d.standardise else (e, queries)))


@reference("larem_classwise")
def larem_classwise(d, fit, rows, same):
    e, queries = whitened(d, fit, rows, 0) if d.pca else (fit[d.key], rows[d.key])
    means, cov = tied_gaussian(e, fit["labels"])
    cov = ridged(cov, d.ridge)
    return np.array([min(squared_distance(x, mu, cov) for mu in means) for x in queries])


def whitened(d, fit, rows, divisor: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal components of fit and scored rows, variance 1 by n − divisor."""
    e = fit[d.key]
    mu = e.mean(axis=0)
    _, spread, axes = np.linalg.svd(e - mu, full_matrices=False)
    scale = spread[: d.pca] / math.sqrt(len(e) - divisor)
    return (e - mu) @ axes[: d.pca].T / scale, (rows[d.key] - mu) @ axes[: d.pca].T / scale


@reference("lared")
def lared(d, fit, rows, same):
    bank, queries = whitened(d, fit, rows, 1) if d.pca else (fit[d.key], rows[d.key])
    width, b = bank.shape[1], d.bandwidth
    scores = []
    for i, x in enumerate(queries):
        logs = [
            -float(((x - e) ** 2).sum()) / (2 * b * b)
            - width / 2 * math.log(2 * math.pi)
            - width * math.log(b)
            for j, e in enumerate(bank)
            if not (same and i == j)
        ]
        scores.append(-(logsumexp(np.array(logs)) - math.log(len(logs))))
    return np.array(scores)


@reference("larem")
def larem(d, fit, rows, same):
    if d.pca:
        n = len(fit[d.key])
        return np.array([n / (n - 1) * (y @ y) for y in whitened(d, fit, rows, 1)[1]])
    e = fit[d.key]
    cov = ridged(np.cov(e.T, bias=True).reshape(e.shape[1], -1), d.ridge)
    return np.array([squared_distance(x, e.mean(axis=0), cov) for x in rows[d.key]])
