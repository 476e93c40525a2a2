"""Slow, obvious formulas, one per detector, written from the definitions and from nothing else.

Each takes the detector (for its hyperparameters), the fit arrays and the arrays to score, both
as mappings from key to float64 NumPy array, and ``same``: whether the rows to score are the fit
rows themselves. Each returns one score per row. Loops over rows are the point.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Reference = Callable[[Any, Arrays, Arrays, bool], np.ndarray]

REFERENCES: dict[str, Reference] = {}


def reference(name: str) -> Callable[[Reference], Reference]:
    """Register the slow formula of a detector."""

    def register(formula: Reference) -> Reference:
        REFERENCES[name] = formula
        return formula

    return register


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def shannon(p: np.ndarray) -> float:
    return -sum(float(x) * math.log(x) for x in p if x > 0)


def logsumexp(z: np.ndarray) -> float:
    top = float(max(z))
    return top + math.log(sum(math.exp(float(x) - top) for x in z))


@reference("msp")
def msp(d, fit, rows, same):
    return np.array([-max(softmax(z / d.temperature)) for z in rows["logits"]])


@reference("max_logit")
def max_logit(d, fit, rows, same):
    return np.array([-max(z) for z in rows["logits"]])


@reference("energy")
def energy(d, fit, rows, same):
    t = d.temperature
    return np.array([-t * logsumexp(z / t) for z in rows["logits"]])


@reference("entropy")
def entropy(d, fit, rows, same):
    return np.array([shannon(softmax(z)) for z in rows["logits"]])


def ridged(cov: np.ndarray, share: float) -> np.ndarray:
    return cov + share * np.trace(cov) / len(cov) * np.eye(len(cov))


def tied_gaussian(h: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    means, cov = [], np.zeros((h.shape[1], h.shape[1]))
    for c in sorted(set(y.tolist())):
        own = h[y == c]
        mu = own.mean(axis=0)
        means.append(mu)
        for x in own:
            cov += np.outer(x - mu, x - mu)
    return means, cov / len(h)


def squared_distance(x: np.ndarray, mu: np.ndarray, cov: np.ndarray) -> float:
    return float((x - mu) @ np.linalg.solve(cov, x - mu))


@reference("mahalanobis")
def mahalanobis(d, fit, rows, same):
    means, cov = tied_gaussian(fit[d.key], fit["labels"])
    cov = ridged(cov, d.ridge)
    return np.array([min(squared_distance(x, mu, cov) for mu in means) for x in rows[d.key]])


@reference("rmd")
def rmd(d, fit, rows, same):
    h = fit[d.key]
    background = ridged(np.cov(h.T, bias=True).reshape(h.shape[1], -1), d.ridge)
    nearest = mahalanobis(d, fit, rows, same)
    overall = [squared_distance(x, h.mean(axis=0), background) for x in rows[d.key]]
    return nearest - np.array(overall)


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


@reference("knn")
def knn(d, fit, rows, same):
    def ready(x: np.ndarray) -> np.ndarray:
        return x / (np.linalg.norm(x) + 1e-10) if d.normalise else x

    bank = [ready(x) for x in fit[d.key]]
    scores = []
    for i, x in enumerate(rows[d.key]):
        distances = sorted(
            np.linalg.norm(ready(x) - b) for j, b in enumerate(bank) if not (same and i == j)
        )
        scores.append(distances[d.k - 1])
    scores = np.array(scores)
    return scores if d.metric == "euclidean" else scores**2


@reference("she")
def she(d, fit, rows, same):
    h, y, predicted = fit[d.key], fit["labels"], fit["logits"].argmax(axis=1)
    patterns = []
    for c in range(fit["logits"].shape[1]):
        correct, own = h[(y == c) & (predicted == c)], h[y == c]
        chosen = correct if len(correct) else own if len(own) else h
        patterns.append(chosen.mean(axis=0))
    scores = []
    for x, z in zip(rows[d.key], rows["logits"], strict=True):
        s = patterns[int(z.argmax())]
        match d.similarity:
            case "inner":
                scores.append(-(x @ s))
            case "cosine":
                scores.append(-(x @ s) / (np.linalg.norm(x) * np.linalg.norm(s)))
            case "euclidean":
                scores.append(np.linalg.norm(x - s))
    return np.array(scores)


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


@reference("mcd_variance")
def mcd_variance(d, fit, rows, same):
    scores = []
    for passes in rows["mc.logits"]:
        p = np.array([softmax(z) for z in passes])  # (T, C)
        mean = p.sum(axis=0) / len(p)
        scores.append(
            np.mean([((p[:, c] - mean[c]) ** 2).sum() / len(p) for c in range(len(mean))])
        )
    return np.array(scores)


@reference("predictive_entropy")
def predictive_entropy(d, fit, rows, same):
    return np.array(
        [shannon(np.mean([softmax(z) for z in passes], axis=0)) for passes in rows["mc.logits"]]
    )


@reference("mutual_information")
def mutual_information(d, fit, rows, same):
    expected = [np.mean([shannon(softmax(z)) for z in passes]) for passes in rows["mc.logits"]]
    return np.maximum(predictive_entropy(d, fit, rows, same) - np.array(expected), 0.0)
