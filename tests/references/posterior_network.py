"""Slow formulas of posterior networks, as they stand in the papers."""

import math

import numpy as np
from scipy.special import digamma, gammaln


def radial(z: np.ndarray, z0: np.ndarray, alpha: float, beta: float) -> tuple[np.ndarray, float]:
    """Rezende & Mohamed 2015, eq. (14) and the determinant below it."""
    d = len(z)
    r = math.sqrt(sum((a - b) ** 2 for a, b in zip(z, z0, strict=True)))
    h = 1 / (alpha + r)
    slope = -1 / (alpha + r) ** 2
    det = (1 + beta * h) ** (d - 1) * (1 + beta * h + beta * slope * r)
    return z + beta * h * (z - z0), det


def radial_log_density(rows, centres, alpha, gamma) -> np.ndarray:
    result = np.zeros((len(rows), centres.shape[1]))
    for i, row in enumerate(rows):
        for f in range(centres.shape[1]):
            z, total = row, 0.0
            for z0, a, g in zip(centres[:, f], alpha[:, f], gamma[:, f], strict=True):
                z, det = radial(z, z0, a, g - a)
                total += math.log(det)
            result[i, f] = total - 0.5 * sum(v * v + math.log(2 * math.pi) for v in z)
    return result


def entropy(alpha: np.ndarray) -> float:
    s = sum(alpha)
    log_beta = sum(gammaln(a) for a in alpha) - gammaln(s)
    return log_beta + (s - len(alpha)) * digamma(s) - sum((a - 1) * digamma(a) for a in alpha)


def bayesian_loss(alpha: np.ndarray, labels: np.ndarray, weight: float) -> float:
    total = 0.0
    for a, y in zip(alpha, labels, strict=True):
        total += digamma(sum(a)) - digamma(a[y]) - weight * entropy(a)
    return total / len(alpha)
