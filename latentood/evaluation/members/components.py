"""Metrics of connected components: is each unknown object segmented, however small it is.

Chan et al. 2021, SegmentMeIfYouCan, arXiv:2104.14812, sec. 4: pixels at or above a threshold are a
predicted segmentation, whose 8-connected components K̂ are compared with the components K of the
OOD pixels. Large objects do not outweigh small ones, as they do in metrics of pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from latentood.errors import DataError
from latentood.evaluation.members.histograms import ScoreHistogram, scores_of_bins
from latentood.evaluation.metrics.counts import Array, as_array
from latentood.latents.facts import ID, IGNORED, OOD

THRESHOLDS: Array = np.arange(25, 80, 5) / 100
"""The thresholds τ of the paper: 0.25, 0.30 … 0.75."""

_EIGHT = np.ones((3, 3), np.int64)  # neighbours, diagonal ones too


@dataclass(frozen=True, eq=False)
class Components:
    """How well the components of some images agree.

    Attributes:
        siou: sIoU of each true component, in [0, 1].
        ppv: Positive predictive value of each predicted component, in [0, 1].
    """

    siou: Array
    ppv: Array

    @classmethod
    def of(cls, images: Iterable[Components]) -> Components:
        """Put the components of images together."""
        parts = [cls(np.zeros(0), np.zeros(0)), *images]
        return cls(
            np.concatenate([one.siou for one in parts]), np.concatenate([one.ppv for one in parts])
        )

    def f1(self, thresholds: Array = THRESHOLDS) -> Array:
        """Give F1 at each threshold τ: 2 TP / (2 TP + FN + FP), in [0, 1].

        A true component is a true positive where its sIoU > τ and else a false negative; a
        predicted one is a false positive where its PPV ≤ τ. NaN where there is no component.
        Departure from the authors' code, which counts sIoU = τ as right.
        """
        limits = np.asarray(thresholds)[:, None]
        right = (self.siou > limits).sum(axis=1)
        wrong = (self.siou <= limits).sum(axis=1) + (self.ppv <= limits).sum(axis=1)
        total = 2 * right + wrong
        result: Array = np.where(total > 0, 2 * right / np.maximum(total, 1), np.nan)
        return result

    def summary(self) -> dict[str, float]:
        """Give the metrics of the benchmark, NaN where there is nothing to average.

        Returns:
            ``siou`` and ``ppv``, means over components, and ``mean_f1``, over ``THRESHOLDS``.
        """
        means = {name: _mean(getattr(self, name)) for name in ("siou", "ppv")}
        return {**means, "mean_f1": float(self.f1().mean())}


def compare_components(
    scores: Any, ood: Any, threshold: float, *, min_predicted: int = 1, min_true: int = 1
) -> Components:
    r"""Compare the components of one image.

    - sIoU(k) = |k ∩ K̂(k)| / |(k ∪ K̂(k)) \ A(k)|, where K̂(k) are the predicted components that
      meet k, and A(k) the pixels of other true components: a predicted component that covers two
      neighbouring objects is not held against either.
    - PPV(k̂) = |k̂ ∩ K(k̂)| / |k̂|, the share of a predicted component that is OOD. (Versions of the
      authors' code have the sIoU of the predicted component here; the paper has PPV.)

    As in the authors' code ignored pixels belong to no component, predicted components that are
    too small are removed, and the pixels of true ones that are too small are ignored, in predicted
    components too. Departure: a pixel at the threshold is predicted as OOD, there one above it.

    Args:
        scores: (H, W), higher is more OOD.
        ood: (H, W) 0 ID, 1 OOD, 255 ignore.
        threshold: Least score of a pixel that is predicted as OOD; :func:`pixel_f1_threshold`
            chooses it as the paper does.
        min_predicted: Fewest pixels of a predicted component. The benchmark has 500 in its
            anomaly track and 50 in its obstacle track, with images of 1 to 2 megapixels.
        min_true: Fewest pixels of a true component; the benchmark has 100 and 10.

    Returns:
        sIoU of its true components and PPV of its predicted ones.

    Raises:
        DataError: The two are not (H, W), ``ood`` has another value, or a score that counts is
            NaN.
    """
    values, classes = _checked(scores, ood)
    counted = classes != IGNORED
    predicted, most = label((values >= threshold) & counted, _EIGHT)
    predicted = _without_small(predicted, most, min_predicted)
    true, number = label(classes == OOD, _EIGHT)
    large = _without_small(true, number, min_true)
    counted &= true.astype(np.bool_) == large.astype(np.bool_)
    k, k_hat, pixels = _shared(large, predicted, counted)
    both = (k > 0) & (k_hat > 0)
    size, covered = (_sums(k, part, number) for part in (pixels, pixels * both))
    sizes, right = (_sums(k_hat, part, most) for part in (pixels, pixels * both))
    background = _sums(k, both * (sizes - right)[k_hat], number)  # of those that meet k
    there, guessed = size[1:] > 0, sizes[1:] > 0  # 0 is none, and small ones have no pixel left
    return Components(
        covered[1:][there] / (size + background)[1:][there], right[1:][guessed] / sizes[1:][guessed]
    )


def pixel_f1_threshold(histogram: ScoreHistogram) -> float:
    """Choose the score at or above which pixels are OOD with the highest F1 of pixels.

    The way of the benchmark, on the pixels of all its images. It looks at the truth of the pixels
    it is given: chosen on the images that are then reported, the metrics are optimistic, so that
    only numbers chosen alike compare. Of equal ones the highest score is taken.

    Raises:
        DataError: There is no OOD pixel.
    """
    ids, oods = histogram.counts[:, ::-1]
    if not oods.any():
        raise DataError(
            "pixel F1 threshold: needs OOD pixels, got none; add images that have them, or look "
            "at their ood values"
        )
    hits = np.cumsum(oods)
    f1 = 2 * hits / (hits + np.cumsum(ids) + hits[-1])
    return float(scores_of_bins()[::-1][f1.argmax()])


def _checked(scores: Any, ood: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    values, classes = as_array(scores), as_array(ood)
    if values.ndim != 2 or values.shape != classes.shape:
        raise DataError(
            "components: scores and ood must be (H, W) of one image, got "
            f"{values.shape} and {classes.shape}; resize scores to the mask"
        )
    wrong = (classes != ID) & (classes != OOD) & (classes != IGNORED)
    if wrong.any():
        raise DataError(
            f"components: ood must be 0 (ID), 1 (OOD) or {IGNORED} (ignore), got "
            f"{classes[wrong][0]}; map the values of the mask first"
        )
    if (np.isnan(values) & (classes != IGNORED)).any():
        raise DataError(
            "components: scores must not be NaN, got NaN in a pixel that counts; look at that "
            "input or at the detector"
        )
    return values, classes


def _without_small(numbers: NDArray[Any], most: int, least: int) -> NDArray[Any]:
    """Set the numbers of components of fewer pixels to 0."""
    if least <= 1:
        return numbers
    sizes = np.bincount(numbers.ravel(), minlength=most + 1)
    result: NDArray[Any] = np.where(sizes[numbers] < least, 0, numbers)
    return result


def _shared(
    true: NDArray[Any], predicted: NDArray[Any], counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of each pair of components, of which one may be 0 for none.

    Returns:
        (P,) numbers of true ones, of predicted ones and of pixels, each pair once.
    """
    width = int(predicted.max(initial=0)) + 1
    pairs = (true.astype(np.int64) * width + predicted).ravel()[counted.ravel()]
    # Neighbours mostly lie in the same pair: what is sorted are runs of them, not pixels.
    ends = np.flatnonzero(np.append(pairs[1:] != pairs[:-1], True)[: len(pairs)])
    there, place = np.unique(pairs[ends], return_inverse=True)
    return there // width, there % width, _sums(place, np.diff(ends, prepend=-1), len(there) - 1)


def _sums(numbers: NDArray[np.int64], values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Add up values for each number from 0 to the last; float64 holds the sums without rounding."""
    return np.bincount(numbers, values, minlength=most + 1).astype(np.int64)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
