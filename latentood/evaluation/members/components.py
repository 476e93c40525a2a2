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
from scipy.sparse import coo_array, csr_array

from latentood.errors import DataError
from latentood.evaluation.members.histograms import ScoreHistogram, scores_of_bins
from latentood.evaluation.metrics.counts import Array, as_array
from latentood.latents.facts import IGNORED

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
    predicted = _labelled((values >= threshold) & (classes != IGNORED), min_predicted)
    true, _ = label(classes == 1, _EIGHT)
    small = _too_small(true, min_true)[true]
    inside = (classes != IGNORED) & ~small & ((true > 0) | (predicted > 0))  # most are in none
    table = _table(true[inside], predicted[inside])
    background, overlap = table[[0], 1:].toarray()[0], table[1:, 1:]
    touched = csr_array(
        (np.ones_like(overlap.data), overlap.indices, overlap.indptr), overlap.shape
    )
    size = table[1:].sum(axis=1)
    kept = size > 0  # numbers of components that were too small have no pixel
    siou = overlap.sum(axis=1)[kept] / (size + touched @ background)[kept]
    right = overlap.sum(axis=0)
    sizes = background + right
    return Components(siou, right[sizes > 0] / sizes[sizes > 0])


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
    wrong = ~np.isin(classes, (0, 1, IGNORED))
    if wrong.any():
        raise DataError(
            f"components: ood must be 0 (ID), 1 (OOD) or {IGNORED} (ignore), got "
            f"{classes[wrong][0]}; map the values of the mask first"
        )
    if np.isnan(values[classes != IGNORED]).any():
        raise DataError(
            "components: scores must not be NaN, got NaN in a pixel that counts; look at that "
            "input or at the detector"
        )
    return values, classes


def _labelled(mask: NDArray[np.bool_], least: int) -> NDArray[Any]:
    """Number the components of at least so many pixels; 0 elsewhere."""
    numbers, _ = label(mask, _EIGHT)
    return np.where(_too_small(numbers, least)[numbers], 0, numbers)


def _too_small(numbers: NDArray[Any], least: int) -> NDArray[np.bool_]:
    """Say of each number whether its component has too few pixels; 0 is none."""
    small: NDArray[np.bool_] = np.bincount(numbers.ravel()) < least
    small[:1] = False
    return small


def _table(true: NDArray[Any], predicted: NDArray[Any]) -> Any:
    """Count the pixels that each true and predicted component share, 0 for the rest: sparse."""
    shape = true.max(initial=0) + 1, predicted.max(initial=0) + 1
    pixels = np.ones(len(true), np.int64)
    return csr_array(coo_array((pixels, (true, predicted)), shape=shape))


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
