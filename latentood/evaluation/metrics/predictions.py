"""How right predictions are, and how well their confidences say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from latentood.errors import DataError
from latentood.evaluation.metrics.ranking import as_float


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Give the share of rows whose predicted class is the true one.

    Args:
        predictions: (n,) predicted classes.
        labels: (n,) true classes.

    Returns:
        A share in [0, 1].

    Raises:
        DataError: There are no rows, or the two differ in length.
    """
    guessed, true = as_float(predictions), as_float(labels)
    if guessed.ndim != 1 or guessed.shape != true.shape or guessed.size == 0:
        raise DataError(
            "accuracy: predictions and labels must be (n,) with n ≥ 1, "
            f"got {guessed.shape} and {true.shape}; give one of each per row"
        )
    return float(np.mean(guessed == true))


def calibration_error(confidences: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Give the expected calibration error (ECE): how far confidences are from the accuracy.

    Guo et al. 2017, arXiv:1706.04599, eq. 3: the rows are put into bins of equal width by their
    confidence, ((m−1)/M, m/M] for m = 1 to M, and the gaps between the mean confidence and the
    accuracy of the bins are averaged, weighted by their rows. A confidence of 0 is in the first.

    Args:
        confidences: (n,) probabilities of the predicted classes, in [0, 1].
        right: (n,) whether the predicted class is the true one.
        bins: M, ≥ 1; the paper has 15.

    Returns:
        A share in [0, 1]; 0 is perfect.

    Raises:
        DataError: There are no rows, the two differ in length, a confidence is not in [0, 1], or
            there are no bins.
    """
    values, hits = as_float(confidences), as_float(right)
    if values.ndim != 1 or values.shape != hits.shape or values.size == 0 or bins < 1:
        raise DataError(
            "calibration_error: confidences and right must be (n,) with n ≥ 1 and bins ≥ 1, got "
            f"{values.shape}, {hits.shape} and {bins}; give one of each per row"
        )
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"calibration_error: confidences must be in [0, 1], got {values[row]} in row {row}; "
            "give probabilities"
        )
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], values)
    return float(np.abs(np.bincount(places, weights=values - hits)).sum()) / values.size
