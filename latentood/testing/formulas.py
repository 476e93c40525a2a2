"""Slow, obvious formulas to hold a detector against, and the pieces that most of them share.

A formula is written from the definition in the paper and from nothing else: loops over rows, plain
NumPy in float64, no code of the detector. It is a function of four arguments::

    def centroid(detector, fit, rows, same):
        h = fit[detector.key]
        mean, spread = h.mean(axis=0), h.std(axis=0)
        return np.array([np.linalg.norm((x - mean) / spread) for x in rows[detector.key]])

``detector`` brings the hyperparameters; ``fit`` and ``rows`` map keys to float64 arrays, ``head``
to (weight, bias), and ``fit["val"]`` to the arrays of the ID val rows; ``same`` says whether the
rows to score are the fit rows themselves, whose own entry in a bank does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Formula = Callable[[Any, Mapping[str, Any], Mapping[str, Any], bool], Vector]
"""(detector, fit arrays, arrays to score, whether they are the fit rows) → (N,) scores."""


def softmax(z: Vector) -> Vector:
    """Exponentiate and normalise (C,) → (C,)."""
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def shannon(p: Vector) -> float:
    """Entropy of (C,) probabilities, nats."""
    return -sum(float(x) * math.log(x) for x in p if x > 0)


def logsumexp(z: Vector) -> float:
    """Logarithm of the sum of exponentials of (C,)."""
    top = float(max(z))
    return top + math.log(sum(math.exp(float(x) - top) for x in z))


def ridged(covariance: Vector, share: float) -> Vector:
    """Add a share of trace(Σ)/D to the diagonal of (D, D)."""
    width = len(covariance)
    return np.asarray(covariance + share * np.trace(covariance) / width * np.eye(width))


def squared_distance(x: Vector, mean: Vector, covariance: Vector) -> float:
    """Squared Mahalanobis distance of (D,) from (D,) under (D, D)."""
    return float((x - mean) @ np.linalg.solve(covariance, x - mean))
