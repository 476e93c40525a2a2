"""Slow formulas of detectors that ask fit rows for more than a distance.

The seeded choice of a bank is an input here, not a formula: only whole banks are compared.
"""

import numpy as np

from latentood.testing.formulas import logsumexp, softmax
from tests.references.registry import reference


def unit(x: np.ndarray) -> np.ndarray:
    return x / (np.linalg.norm(x) + 1e-10)


@reference("nnguide")
def nnguide(d, fit, rows, same):
    assert d.share == 1.0
    guides = [unit(x) * logsumexp(z) for x, z in zip(fit[d.key], fit["logits"], strict=True)]
    scores = []
    for i, (x, z) in enumerate(zip(rows[d.key], rows["logits"], strict=True)):
        products = [float(unit(x) @ g) for j, g in enumerate(guides) if not (same and i == j)]
        scores.append(-logsumexp(z) * np.mean(sorted(products)[-d.k :]))
    return np.array(scores)


@reference("relation")
def relation(d, fit, rows, same):
    assert d.share == 1.0
    bank = [(unit(x), softmax(z)) for x, z in zip(fit[d.key], fit["logits"], strict=True)]
    scores = []
    for i, (x, z) in enumerate(zip(rows[d.key], rows["logits"], strict=True)):
        p, total = softmax(z), 0.0
        for j, (other, q) in enumerate(bank):
            if not (same and i == j):
                total += (max(0.0, float(unit(x) @ other)) * float(p @ q)) ** d.power
        scores.append(-total)
    return np.array(scores)


@reference("cfood")
def cfood(d, fit, rows, same):
    reference_rows = [unit(x) for x in fit[d.key]]
    n = len(reference_rows)
    assert n <= d.reference

    def squared(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a - b) ** 2).sum())

    within = [
        [squared(y, other) for j, other in enumerate(reference_rows) if j != i]
        for i, y in enumerate(reference_rows)
    ]
    scores = []
    for i, x in enumerate(rows[d.key]):
        smallest = []  # for each reference row, the k that makes x one of its k neighbours
        for j, y in enumerate(reference_rows):
            distance = squared(y, unit(x))
            nearer = sum(other < distance - 1e-12 for other in within[j])
            smallest.append(n if same and i == j else nearer + 1)
        k = next(k for k in range(1, n + 1) if sum(s <= k for s in smallest) >= d.rho * n)
        scores.append(k / n)
    return np.array(scores)


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


@reference("dknn")
def dknn(d, fit, rows, same):
    def unit(x):
        return x / np.linalg.norm(x)

    bank = np.array([unit(x) for x in fit[d.key]])
    assert len(bank) <= d.calibration
    mean = bank.mean(axis=0)
    values, vectors = np.linalg.eigh((bank - mean).T @ (bank - mean))
    values, vectors = values[::-1], vectors[:, ::-1]
    dim = 1
    while values[:dim].sum() < d.variance * values.sum():
        dim += 1
    principal = vectors[:, :dim] @ vectors[:, :dim].T
    scores = []
    for projector in (principal, np.eye(len(mean)) - principal):
        places = [unit(projector @ (x - mean) + mean) for x in bank]

        def kth(x, skip, places=places, projector=projector):
            here = unit(projector @ (unit(x) - mean) + mean)
            others = [p for j, p in enumerate(places) if j != skip]
            return sorted(np.linalg.norm(here - p) for p in others)[d.k - 1]

        known = [kth(x, i) for i, x in enumerate(fit[d.key])]
        far = [kth(x, i if same else None) for i, x in enumerate(rows[d.key])]
        scores.append((np.array(far) - np.mean(known)) / np.std(known))
    return d.alpha * scores[0] + (1 - d.alpha) * scores[1]
