"""How right predictions are, and how well their confidences say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from latentood.errors import DataError, unknown
from latentood.evaluation.metrics.ranking import Array, as_float

Kind = Literal["logits", "probabilities"]
"""What a network gives for each class."""

_MOST_OFF = 0.01
"""How far probabilities may sum up to other than 1: bfloat16 rounds to 8 bits."""


@dataclass(frozen=True)
class Quality:
    """How good the predictions of a split are."""

    n: int  # rows
    accuracy: float
    ece: float
    brier: float
    nll: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """What metrics of predictions need of each row, so that no logits have to be kept."""

    right: NDArray[np.bool_]  # (n,)
    confidence: Array  # (n,) the largest softmax probability
    brier: Array  # (n,)
    nll: Array  # (n,) nats

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike) -> Predictions:
        """Look at logits (n, C) and true classes (n,), from 0 to C − 1.

        Raises:
            DataError: As of :func:`nll`.
        """
        log_p, true = _log_probabilities("predictions", logits, labels, "logits")
        p = np.exp(log_p)
        return cls(log_p.argmax(axis=1) == true, p.max(axis=1), _brier(p, true), _nll(log_p, true))

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions | None:
        """Put the rows of several together; None where there are none."""
        names = [spec.name for spec in fields(cls)]
        columns = {name: [getattr(part, name) for part in parts] for name in names}
        return (
            cls(**{name: np.concatenate(part) for name, part in columns.items()}) if parts else None
        )

    def quality(self) -> Quality:
        """Give the metrics; the calibration error is in 15 bins."""
        return Quality(
            n=self.right.size,
            accuracy=float(self.right.mean()),
            ece=calibration_error(self.confidence, self.right),
            brier=float(self.brier.mean()),
            nll=float(self.nll.mean()),
        )


def quality_of(logits: ArrayLike, labels: ArrayLike) -> Quality:
    """Compute all metrics of predictions from the logits (n, C) and labels (n,) of a split.

    Raises:
        DataError: As of :func:`nll`.
    """
    return Predictions.of(logits, labels).quality()


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
    places = bin_of(values, bins)
    return float(np.abs(np.bincount(places, weights=values - hits)).sum()) / values.size


def bin_of(confidences: Array, bins: int) -> NDArray[np.intp]:
    """Give the number of the bin of each confidence, as :func:`calibration_error` has them."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidences)


def brier(outputs: ArrayLike, labels: ArrayLike, *, kind: Kind = "logits") -> float:
    """Give the Brier score: the squared distance of probabilities from the truth.

    Brier 1950 (Monthly Weather Review 78:1-3): the mean over rows of Σ_c (p_c − [c is true])²,
    without the factor ½ that is common for two classes.

    Args:
        outputs: (n, C) logits, or probabilities of the classes.
        labels: (n,) true classes, from 0 to C − 1.
        kind: Which of the two.

    Returns:
        A value in [0, 2]; 0 is perfect, and 1 − 1/C that of equal probabilities.

    Raises:
        DataError: As of :func:`nll`.
    """
    log_p, true = _log_probabilities("brier", outputs, labels, kind)
    return float(_brier(np.exp(log_p), true).mean())


def nll(outputs: ArrayLike, labels: ArrayLike, *, kind: Kind = "logits") -> float:
    """Give the negative log-likelihood of the true classes, the mean over rows, in nats.

    The cross-entropy. Of logits it is exact where a probability underflows; nothing is clipped, so
    that a true class with probability 0 gives infinity.

    Args:
        outputs: (n, C) logits, or probabilities of the classes.
        labels: (n,) true classes, from 0 to C − 1.
        kind: Which of the two.

    Returns:
        A value ≥ 0; 0 is perfect, and log C that of equal probabilities.

    Raises:
        DataError: Outputs are not (n, C) with n ≥ 1, or not finite; labels are not one class for
            each row; or probabilities are not in [0, 1], or not sum up to 1 (± 0.01).
        UnknownName: No such kind.
    """
    return float(_nll(*_log_probabilities("nll", outputs, labels, kind)).mean())


def _brier(probabilities: Array, labels: NDArray[np.int64]) -> Array:
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    distances: Array = np.square(errors).sum(axis=1)
    return distances


def _nll(log_p: Array, labels: NDArray[np.int64]) -> Array:
    surprise: Array = -log_p[np.arange(len(labels)), labels]
    return surprise


def _log_probabilities(
    who: str, outputs: ArrayLike, labels: ArrayLike, kind: Kind
) -> tuple[Array, NDArray[np.int64]]:
    """Give log-probabilities (n, C) and the labels as whole numbers (n,)."""
    if kind not in get_args(Kind):
        raise unknown(f"kind of {who}", kind, get_args(Kind))
    values, true = as_float(outputs), as_float(labels)
    if values.ndim != 2 or true.shape != values.shape[:1] or values.size == 0:
        raise DataError(
            f"{who}: {kind} must be (n, C) and labels (n,) with n ≥ 1, got {values.shape} and "
            f"{true.shape}; give one of each per row"
        )
    _refuse(f"{who}: {kind} must be finite", values, ~np.isfinite(values))
    last = values.shape[1] - 1
    known = (true >= 0) & (true <= last) & (true == np.floor(true))
    _refuse(f"{who}: labels must be classes from 0 to {last}", true, ~known)
    classes = true.astype(np.int64)
    if kind == "logits":
        return log_softmax(values, axis=1), classes
    _refuse(f"{who}: probabilities must be in [0, 1]", values, (values < 0) | (values > 1))
    sums = values.sum(axis=1)
    _refuse(f"{who}: probabilities must sum up to 1", sums, np.abs(sums - 1) > _MOST_OFF)
    with np.errstate(divide="ignore"):
        return np.log(values), classes


def _refuse(must: str, values: Array, bad: NDArray[np.bool_]) -> None:
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        raise DataError(
            f"{must}, got {values[place]:g} in row {place[0]}; leave out such rows, or look at "
            "where they come from"
        )
