"""Slow formulas of detectors that estimate densities from the fit rows."""

import math

import numpy as np

from latentood.testing.formulas import logsumexp
from tests.references.registry import reference


def log_kernels(x: np.ndarray, bank: list[np.ndarray], b: float) -> float:
    """Log of the mean of Gaussian kernels of bandwidth b."""
    norm = len(x) * (0.5 * math.log(2 * math.pi) + math.log(b))
    logs = [-float(((x - e) ** 2).sum()) / (2 * b * b) - norm for e in bank]
    return logsumexp(np.array(logs)) - math.log(len(logs))


@reference("kde")
def kde(d, fit, rows, same):
    bank = fit[d.key]
    n, width = bank.shape
    sigma = math.sqrt(np.mean([np.mean((c - c.mean()) ** 2) for c in bank.T]))
    b = d.bandwidth or sigma * n ** (-1 / (width + 4))
    scores = []
    for i, x in enumerate(rows[d.key]):
        others = [e for j, e in enumerate(bank) if not (same and i == j)]
        scores.append(-log_kernels(x, others, b))
    return np.array(scores)


@reference("lof")
def lof(d, fit, rows, same):
    def ready(x: np.ndarray) -> np.ndarray:
        return x / (np.linalg.norm(x) + 1e-10) if d.normalise else x

    bank = np.array([ready(x) for x in fit[d.key]])

    def neighbours(x: np.ndarray, itself: int | None) -> list[tuple[float, int]]:
        distances = [(float(np.linalg.norm(x - b)), j) for j, b in enumerate(bank) if j != itself]
        return sorted(distances)[: d.k]

    of_bank = [neighbours(b, j) for j, b in enumerate(bank)]
    reach = [near[-1][0] for near in of_bank]
    floor = 1e-10 * sum(reach) / len(reach)

    def density(near: list[tuple[float, int]]) -> float:
        return 1 / (sum(max(distance, reach[j]) for distance, j in near) / d.k + floor)

    densities = [density(near) for near in of_bank]
    scores = []
    for i, x in enumerate(rows[d.key]):
        near = neighbours(ready(x), i if same else None)
        scores.append(sum(densities[j] for _, j in near) / d.k / density(near))
    return np.array(scores)


@reference("posterior_density")
def posterior_density(d, fit, rows, same):
    return np.array([math.log(len(row)) - logsumexp(row) for row in rows[f"density/{d.head}"]])
