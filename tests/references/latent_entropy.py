"""Slow formulas of detectors of latent entropies: those of features, on principal components."""

import numpy as np

from tests.references.gaussian import mixture, standardised
from tests.references.registry import (
    REFERENCES,
    reference,
    ridged,
    squared_distance,
    tied_gaussian,
    whitened,
)


@reference("lar_knn")
def lar_knn(d, fit, rows, same):
    bank, queries = whitened(d, fit, rows, 1) if d.pca else (fit[d.key], rows[d.key])
    return REFERENCES["knn"](d, {d.key: bank}, {d.key: queries}, same)


@reference("lar_gmm")
def lar_gmm(d, fit, rows, same):
    if d.pca:
        return mixture(d, *whitened(d, fit, rows, 1))
    e, queries = fit[d.key], rows[d.key]
    return mixture(d, *(standardised(e, queries) if d.standardise else (e, queries)))


@reference("larem_classwise")
def larem_classwise(d, fit, rows, same):
    e, queries = whitened(d, fit, rows, 0) if d.pca else (fit[d.key], rows[d.key])
    means, cov = tied_gaussian(e, fit["labels"])
    cov = ridged(cov, d.ridge)
    return np.array([min(squared_distance(x, mu, cov) for mu in means) for x in queries])
