"""Slow formulas of detectors that split features into a subspace and the rest."""

import math

import numpy as np

from latentood.testing.formulas import logsumexp
from tests.references.registry import reference

FEATURES = "features/penultimate"


def axes_of(scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors, largest first."""
    values, vectors = np.linalg.eigh(scatter)
    return values[::-1], vectors[:, ::-1]


def norm_along(x: np.ndarray, axes: np.ndarray) -> float:
    return math.sqrt(sum(float(axis @ x) ** 2 for axis in axes.T))


@reference("residual")
def residual(d, fit, rows, same):
    h = fit[d.key]
    width = h.shape[1]
    if d.origin == "auto" and d.layer == "penultimate":
        weight, bias = fit["head"]
        u = -np.linalg.pinv(weight) @ bias
    else:
        u = h.mean(axis=0)
    dim = d.dim or (1000 if width >= 2048 else 512 if width >= 768 else width // 2)
    _, axes = axes_of(sum(np.outer(x - u, x - u) for x in h))
    return np.array([norm_along(x - u, axes[:, dim:]) for x in rows[d.key]])


@reference("pca_reconstruction")
def pca_reconstruction(d, fit, rows, same):
    h = fit[d.key]
    mu = h.mean(axis=0)
    values, axes = axes_of(sum(np.outer(x - mu, x - mu) for x in h))
    dim = d.dim
    while dim < 1 or (not d.dim and values[:dim].sum() < d.variance * values.sum()):
        dim += 1
    scores = []
    for x in rows[d.key]:
        rebuilt = mu + sum((axis @ (x - mu)) * axis for axis in axes[:, :dim].T)
        error = np.linalg.norm(x - rebuilt)
        scores.append(error / np.linalg.norm(x) if d.relative else error)
    return np.array(scores)


@reference("nusa")
def nusa(d, fit, rows, same):
    weight = fit["head"][0]
    projector = np.linalg.pinv(weight) @ weight  # onto the rows of W
    return np.array([np.linalg.norm(x - projector @ x) / np.linalg.norm(x) for x in rows[FEATURES]])


@reference("neco")
def neco(d, fit, rows, same):
    h = fit[d.key]
    mu, sigma = h.mean(axis=0), h.std(axis=0)
    sigma = np.where(d.standardise & (sigma > 1e-12), sigma, 1.0)
    scaled = (h - mu) / sigma
    _, axes = axes_of(scaled.T @ scaled)
    dim = d.dim or max(1, fit["logits"].shape[1] - 1)
    multiplies = (h.min() < 0) if d.max_logit == "auto" else d.max_logit
    scores = []
    for x, z in zip(rows[d.key], rows["logits"], strict=True):
        y = (x - mu) / sigma
        share = norm_along(y, axes[:, :dim]) / np.linalg.norm(y)
        scores.append(-share * (max(z) if multiplies else 1.0))
    return np.array(scores)


@reference("cosine")
def cosine(d, fit, rows, same):
    h, y = fit[d.key], fit["labels"]
    means = [h[y == c].mean(axis=0) for c in sorted(set(y.tolist()))]
    return np.array(
        [
            -max(x @ mu / (np.linalg.norm(x) * np.linalg.norm(mu)) for mu in means)
            for x in rows[d.key]
        ]
    )


@reference("vim")
def vim(d, fit, rows, same):
    h, (weight, bias) = fit["features/penultimate"], fit["head"]
    width = h.shape[1]
    rule = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    u = -np.linalg.pinv(weight) @ bias
    _, vectors = np.linalg.eigh(sum(np.outer(x - u, x - u) for x in h) / len(h))
    null = vectors[:, : width - (d.dim or rule)]  # ascending: the smallest come first

    def residual(x: np.ndarray) -> float:
        return math.sqrt(sum(float(n @ (x - u)) ** 2 for n in null.T))

    alpha = sum(max(z) for z in fit["logits"]) / sum(residual(x) for x in h)
    pairs = zip(rows["features/penultimate"], rows["logits"], strict=True)
    return np.array([alpha * residual(x) - logsumexp(z) for x, z in pairs])
