"""Intervals of metrics of members, whose scores are correlated within an image.

Neighbouring pixels and boxes of one image score alike, so that their number says little about how
much was observed: the images are the independent observations. The AUROC has the variance of
Obuchowski 1997 (Biometrics 53:567-578); the other metrics have a bootstrap over images.

Both work on counts for each image and distinct score, so that a member costs nothing once it has
been counted: :class:`ImageCounts`.

Where there is no estimate of a variance: with fewer than 2 images that have OOD members, or that
have ID members, intervals are [0, 1], as those of rows
(:mod:`latentood.evaluation.uncertainty.independent`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array, vstack
from scipy.special import stdtrit

from latentood.errors import DataError
from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.metrics.counts import (
    METRICS,
    Array,
    Counts,
    auroc,
    placements,
)
from latentood.latents.facts import IGNORED

Interval = tuple[float, float]

_PIECE = 1 << 20  # scores × resamples at a time: 8 MiB for each array of them
_ROUNDING = 1e-28  # what is left of a variance that is 0; placements are right to about 1e-15
_FEWEST_RESAMPLES = 100


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """How many members of each image have each distinct score.

    Images without ID and OOD members are left out.

    Attributes:
        ids: Sparse (I, K) of int64, the counts of ID members; scores ascend along K.
        oods: Sparse (I, K), the counts of OOD members.
    """

    ids: Any
    oods: Any

    @classmethod
    def of_histograms(cls, images: Iterable[ScoreHistogram]) -> ImageCounts:
        """Keep what the histogram of each image has: 16 bytes for each image and used bin.

        Histograms are read one after the other, so that a generator holds one at a time.
        """
        rows = [csr_array(image.counts) for image in images]
        if not rows:
            raise DataError(
                "clustered interval: needs at least one image, got none; give a histogram of each"
            )
        both = vstack(rows, format="csr")
        return cls(both[0::2], both[1::2])._compact()

    @classmethod
    def of_members(cls, scores: ArrayLike, ood: ArrayLike, image: ArrayLike) -> ImageCounts:
        """Count members that are all in memory, with scores of any precision.

        Args:
            scores: (M,) finite numbers; not looked at where a member is ignored.
            ood: (M,) 0 ID, 1 OOD, 255 ignore.
            image: (M,) a number for the image of each member.

        Raises:
            DataError: The three differ in length, ``ood`` has another value, or a score that
                counts is not finite.
        """
        values, classes, owners = np.asarray(scores), np.asarray(ood), np.asarray(image)
        if values.ndim != 1 or not values.shape == classes.shape == owners.shape:
            raise DataError(
                "clustered interval: scores, ood and image must be (M,), got "
                f"{values.shape}, {classes.shape} and {owners.shape}; give one of each per member"
            )
        known = classes != IGNORED
        values, classes, owners = values[known], classes[known], owners[known]
        if not np.isin(classes, (0, 1)).all():
            raise DataError(
                f"clustered interval: ood must be 0 (ID), 1 (OOD) or {IGNORED} (ignore), got "
                f"{classes[~np.isin(classes, (0, 1))][0]}; map the values first"
            )
        if not np.isfinite(values).all():
            raise DataError(
                "clustered interval: scores must be finite, got "
                f"{values[~np.isfinite(values)][0]}; look at that input or at the detector"
            )
        _, bins = np.unique(values, return_inverse=True)
        _, rows = np.unique(owners, return_inverse=True)
        shape = int(rows.max(initial=-1)) + 1, int(bins.max(initial=-1)) + 1
        return cls(*(_counted(rows[classes == one], bins[classes == one], shape) for one in (0, 1)))

    @cached_property
    def totals(self) -> tuple[Counts, Counts]:
        """The counts of all images together, ID and OOD: (K,) each."""
        return self.ids.sum(axis=0), self.oods.sum(axis=0)

    @cached_property
    def units(self) -> int:
        """The smaller number of images, of those with ID members and those with OOD members."""
        return min(int((one.sum(axis=1) > 0).sum()) for one in (self.ids, self.oods))

    def coarse(self, most: int) -> ImageCounts:
        """Join neighbouring scores until there are at most so many, each with as many members."""
        total = np.cumsum(self.totals[0] + self.totals[1])
        if len(total) <= most:
            return self
        place = np.minimum((total - 1) * most // total[-1], most - 1)
        shape = len(total), most
        joined = csr_array((np.ones(len(total), np.int64), (np.arange(len(total)), place)), shape)
        return ImageCounts(self.ids @ joined, self.oods @ joined)

    def _compact(self) -> ImageCounts:
        """Leave out images without members and scores that none has."""
        both = self.ids + self.oods
        rows, bins = np.flatnonzero(both.sum(axis=1)), np.flatnonzero(both.sum(axis=0))
        return ImageCounts(self.ids[rows][:, bins], self.oods[rows][:, bins])


def obuchowski(images: ImageCounts) -> tuple[float, float]:
    """Give the AUROC of all members and its variance for members that are correlated in images.

    Obuchowski 1997, sec. 2: with a_i the sum over the OOD members of image i of the share of ID
    members that they exceed, less m_i · AUROC, and b_i the sum over its n_i ID members of the
    share of OOD members that exceed them, less n_i · AUROC (ties count one half)::

        variance = I10/(I10−1) Σ a_i²/M² + I01/(I01−1) Σ b_i²/N² + I/(I−1) Σ 2 a_i b_i/(MN)

    M and N are all OOD and ID members, I10 and I01 the images that have OOD and ID members, I all
    of them: images may have members of one class only. With one member in each image it is the
    variance of DeLong et al. 1988. The placements of a score follow from cumulative sums over the
    K distinct scores, so that the time does not depend on the number of members.

    Returns:
        The AUROC in [0, 1] and its variance ≥ 0; NaN with fewer than 2 images of a class.

    Raises:
        DataError: There are no ID members or no OOD members.
    """
    ids, oods = images.totals
    value = _known("obuchowski", ids, oods)
    if images.units < 2:
        return value, float("nan")
    caught = (images.oods @ placements(ids) - images.oods.sum(axis=1) * value) / oods.sum()
    passed = images.ids @ (1 - placements(oods)) - images.ids.sum(axis=1) * value
    passed = passed / ids.sum()
    variance = (
        _spread(caught, images.oods)
        + _spread(passed, images.ids)
        + _correction(len(caught)) * 2 * float(caught @ passed)
    )
    return value, max(variance, 0.0)  # the three corrections differ: it can come out below 0


def auroc_interval(images: ImageCounts, level: float = 0.95) -> Interval:
    """Give the interval (low, high) of the AUROC of members that are correlated in images.

    Symmetric on the logit scale, with the variance of :func:`obuchowski`, so that it stays in
    [0, 1] and is skewed near the ends, where a Wald interval is wrong. Departure: the quantile is
    that of Student's t with min(I10, I01) − 1 degrees of freedom instead of the normal one, since
    the variance is estimated from so many images.

    Where the variance is 0 (ID and OOD separated perfectly, or all scores equal) the images say
    how often something else occurs at most: of k = min(I10, I01) images that are all alike, a
    share p = ((1 − level)/2)^(1/k) or more of all images is like them (Clopper & Pearson 1934),
    and others may have any value in [0, 1]. The interval is then [p · AUROC, 1 − p · (1 − AUROC)]:
    for 20 perfect images [0.83, 1].

    Raises:
        DataError: There are no ID members or no OOD members, or the level is not in (0, 1).
    """
    tail = _tail(level)
    value, variance = obuchowski(images)
    if not np.isfinite(variance):
        return 0.0, 1.0
    if variance <= _ROUNDING or not 0 < value < 1:
        alike = tail ** (1 / images.units)
        return alike * value, 1 - alike * (1 - value)
    width = stdtrit(images.units - 1, 1 - tail) * np.sqrt(variance) / (value * (1 - value))
    odds = value / (1 - value) * np.exp([-width, width])
    return float(odds[0] / (1 + odds[0])), float(1 / (1 + 1 / odds[1]))


def bootstrap_over_images(
    images: ImageCounts, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Give percentile intervals of all metrics from images drawn with replacement.

    Efron 1979, with images as the observations: each resample draws I of the I images, with all
    members of each. How often an image was drawn is a weight of its counts, so that a resample is
    a row of a product of matrices; pieces of resamples are bounded to about 100 MiB. Resamples
    that lack a class say nothing and are left out. Where a metric is at its best or worst in
    every image, the interval has no width, which does not mean that the number is certain.

    Args:
        images: Counts of every image.
        resamples: How many, ≥ 100.
        seed: Of the draws; the same seed gives the same intervals.
        level: Share of repeated experiments whose interval holds the true value, nearly.

    Returns:
        Name of the metric → (low, high) in [0, 1], for all of ``counts.METRICS``.

    Raises:
        DataError: There are no ID members or no OOD members, the level is not in (0, 1), or there
            are fewer than 100 resamples.
    """
    tail = _tail(level)
    if resamples < _FEWEST_RESAMPLES:
        raise DataError(
            f"bootstrap over images: resamples must be ≥ {_FEWEST_RESAMPLES}, got {resamples}; "
            "1000 is usual"
        )
    ids, oods = images.totals
    _known("bootstrap over images", ids, oods)
    if images.units < 2:
        return dict.fromkeys(METRICS, (0.0, 1.0))
    number = images.ids.shape[0]
    draw = np.random.default_rng(seed)
    weights = draw.multinomial(number, np.full(number, 1 / number), size=resamples)
    at_once = max(1, _PIECE // len(ids))
    pieces = [
        _resampled(images, weights[start : start + at_once])
        for start in range(0, resamples, at_once)
    ]
    values = np.concatenate(pieces, axis=1)
    bounds = np.nanquantile(values, (tail, 1 - tail), axis=1).T
    return {
        name: (float(low), float(high)) for name, (low, high) in zip(METRICS, bounds, strict=True)
    }


def _resampled(images: ImageCounts, weights: NDArray[np.int64]) -> Array:
    """Give all metrics of some resamples, from the weights (b, I) of images: (metrics, b)."""
    ids, oods = images.ids.T @ weights.T, images.oods.T @ weights.T
    return np.stack([metric(ids, oods) for metric in METRICS.values()])


def _counted(rows: NDArray[Any], bins: NDArray[Any], shape: tuple[int, int]) -> Any:
    return csr_array(coo_array((np.ones(len(rows), np.int64), (rows, bins)), shape=shape))


def _known(who: str, ids: Counts, oods: Counts) -> float:
    if not ids.any() or not oods.any():
        raise DataError(
            f"{who}: needs ID and OOD members, got {ids.sum()} and {oods.sum()}; add images that "
            "have the other ones, or look at their ood values"
        )
    return float(auroc(ids, oods))


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(
            f"clustered interval: level must be in (0, 1), got {level!r}; 0.95 is usual"
        )
    return (1 - level) / 2


def _spread(sums: Array, counts: Any) -> float:
    """Sum the squares over images, corrected for how many have members of this class."""
    return _correction(int((counts.sum(axis=1) > 0).sum())) * float(sums @ sums)


def _correction(number: int) -> float:
    return number / (number - 1)
