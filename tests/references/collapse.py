"""Slow formulas of neural collapse and spectra, class by class and pair by pair."""

import itertools
import math

import numpy as np


def class_means(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([h[y == c].mean(axis=0) for c in sorted(set(y.tolist()))])


def centred(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    means = class_means(h, y)
    return means - means.mean(axis=0)


def nc1(h: np.ndarray, y: np.ndarray) -> float:
    """tr(Σ_W Σ_B⁺)/C, Papyan, Han and Donoho 2020."""
    classes = sorted(set(y.tolist()))
    means = class_means(h, y)
    within = np.zeros((h.shape[1], h.shape[1]))
    for row, label in zip(h, y, strict=True):
        off = row - means[classes.index(label)]
        within += np.outer(off, off) / len(h)
    between = np.zeros_like(within)
    for mean in centred(h, y):
        between += np.outer(mean, mean) / len(classes)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-12))) / len(classes)


def nc2_norms(h: np.ndarray, y: np.ndarray) -> float:
    norms = np.array([np.linalg.norm(mean) for mean in centred(h, y)])
    return float(norms.std() / norms.mean())


def cosines(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    pairs = itertools.permutations(centred(h, y), 2)
    return np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def nc2_angles(h: np.ndarray, y: np.ndarray) -> float:
    return float(cosines(h, y).std())


def nc2_simplex(h: np.ndarray, y: np.ndarray) -> float:
    classes = len(set(y.tolist()))
    return float(np.mean([abs(cosine + 1 / (classes - 1)) for cosine in cosines(h, y)]))


def nc3(h: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    means = centred(h, y)
    gap = weight / np.linalg.norm(weight) - means / np.linalg.norm(means)
    return float(sum(value**2 for value in gap.flatten()))


def nearest_mean(h: np.ndarray, means: np.ndarray) -> np.ndarray:
    return np.array([np.argmin([np.linalg.norm(row - mean) for mean in means]) for row in h])


def silhouette(h: np.ndarray, y: np.ndarray, means: np.ndarray) -> float:
    values = []
    for row, label in zip(h, y, strict=True):
        distances = [float(np.linalg.norm(row - mean)) for mean in means]
        own = distances.pop(label)
        values.append((min(distances) - own) / max(own, min(distances)))
    return float(np.mean(values))


def fisher(h: np.ndarray, y: np.ndarray) -> float:
    means = class_means(h, y)
    within = np.mean([np.sum((row - means[label]) ** 2) for row, label in zip(h, y, strict=True)])
    between = np.mean([np.sum((means[label] - h.mean(axis=0)) ** 2) for label in y])
    return float(between / within)


def eigenvalues(h: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(np.cov(h.T, bias=True))[::-1]


def effective_rank(values: np.ndarray) -> float:
    shares = values / values.sum()
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def hoyer(h: np.ndarray) -> float:
    wide = math.sqrt(h.shape[1])
    rows = [(wide - np.abs(row).sum() / np.linalg.norm(row)) / (wide - 1) for row in h]
    return float(np.mean(rows))
