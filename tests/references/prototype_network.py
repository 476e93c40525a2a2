"""Slow formulas of prototype networks, as they stand in Yang et al. 2018."""

import math

import numpy as np


def squared(a: np.ndarray, b: np.ndarray) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def probabilities(row: np.ndarray, prototypes: np.ndarray, gamma: float) -> list[float]:
    """Eq. (10) and (11) for prototypes (C, K, H)."""
    of_each = [[math.exp(-gamma * squared(row, m)) for m in own] for own in prototypes]
    total = sum(map(sum, of_each))
    return [sum(own) / total for own in of_each]


def loss(rows, labels, prototypes, gamma: float, weight: float) -> float:
    """Eq. (12) plus the weighted prototype loss."""
    total = 0.0
    for row, y in zip(rows, labels, strict=True):
        nearest = min(squared(row, m) for m in prototypes[y])
        total += -math.log(probabilities(row, prototypes, gamma)[y]) + weight * nearest
    return total / len(rows)
