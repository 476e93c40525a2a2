"""Intervals of metrics of members, whose scores are correlated within an image.

Neighbouring pixels and boxes of one image score alike, so that their number says little about how
much was observed: the images are the independent observations. The AUROC has the variance of
Obuchowski 1997 (Biometrics 53:567-578); other metrics are in
:mod:`latentood.evaluation.uncertainty.clustered_metrics`.

All work on counts for each image and distinct score, so that a member costs nothing once it has
been counted: :class:`ImageCounts`.

Where there is no estimate of a variance: with fewer than 2 images that have OOD members, or that
have ID members, intervals are [0, 1], as those of rows
(:mod:`latentood.evaluation.uncertainty.independent`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.sparse import coo_array, csr_array
from scipy.special import ndtri, owens_t, stdtrit

from latentood.errors import DataError
from latentood.evaluation.members.histograms import BINS, Runs, scores_of_bins
from latentood.evaluation.metrics.counts import (
    Array,
    Counts,
    auroc,
    placements,
)
from latentood.latents.facts import IGNORED

Interval = tuple[float, float]

_ROUNDING = 1e-28  # what is left of a variance that is 0; placements are right to about 1e-15
_PRIOR_IMAGES = 5.0  # that the variance of the model is worth
_EDGE = 1e-9  # of the AUROC: closer to 0 and 1 its variance is lost in rounding


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """How many members of each image have each distinct score.

    Images without ID and OOD members are left out.

    Attributes:
        ids: Sparse (I, K) of int64, the counts of ID members; scores ascend along K.
        oods: Sparse (I, K), the counts of OOD members.
        scores: (K,) the scores, where they are known.
    """

    ids: Any
    oods: Any
    scores: Array | None = None

    @classmethod
    def of_images(cls, images: Iterable[tuple[Runs, Runs]]) -> ImageCounts:
        """Put the ID and OOD members of images together: 16 bytes for each image and used score."""
        sides = list(
            zip(*(one for one in images if any(len(side.bins) for side in one)), strict=True)
        )
        if not sides:
            raise DataError(
                "clustered interval: needs at least one image with members, got none; give the "
                "runs of each"
            )
        used = np.zeros(BINS, np.bool_)
        for runs in itertools.chain(*sides):
            used[runs.bins] = True
        column = np.cumsum(used) - 1
        scores = scores_of_bins()[used].astype(np.float64)
        ids, oods = (_stacked(side, column) for side in sides)
        return cls(ids, oods, scores)

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
        distinct, bins = np.unique(values, return_inverse=True)
        _, rows = np.unique(owners, return_inverse=True)
        shape = int(rows.max(initial=-1)) + 1, int(bins.max(initial=-1)) + 1
        ids, oods = (_counted(rows[classes == one], bins[classes == one], shape) for one in (0, 1))
        return cls(ids, oods, distinct.astype(np.float64))

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
    sums = Sums.of(images)
    return sums.auroc, sums.variance


@dataclass(frozen=True, eq=False)
class Sums:
    """What each image adds to the AUROC, from which variances and covariances follow.

    Attributes:
        images: What the sums are of.
        auroc: Of all members together.
        caught: (I,) a_i/M of :func:`obuchowski`, of the OOD members of an image.
        passed: (I,) b_i/N, of its ID members.
    """

    images: ImageCounts
    auroc: float
    caught: Array
    passed: Array

    @classmethod
    def of(cls, images: ImageCounts) -> Sums:
        """Compute them in O(K) and the stored counts."""
        ids, oods = images.totals
        value = _known("clustered auroc", ids, oods)
        caught = images.oods @ placements(ids) - images.oods.sum(axis=1) * value
        passed = images.ids @ (1 - placements(oods)) - images.ids.sum(axis=1) * value
        return cls(images, value, caught / oods.sum(), passed / ids.sum())

    @property
    def variance(self) -> float:
        """Obuchowski's, of the AUROC: ≥ 0, NaN with fewer than 2 images of a class."""
        return max(self.covariance(self), 0.0)  # its three corrections differ: it can be below 0

    def covariance(self, other: Sums) -> float:
        """Give Obuchowski's covariance with the AUROC of another detector on the same images."""
        if self.images.units < 2:
            return float("nan")
        with_id, with_ood = (
            _correction(int((one.sum(axis=1) > 0).sum()))
            for one in (self.images.ids, self.images.oods)
        )
        crossed = self.caught @ other.passed + self.passed @ other.caught
        return float(
            with_ood * self.caught @ other.caught
            + with_id * self.passed @ other.passed
            + _correction(len(self.caught)) * crossed
        )

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance by Welch and Satterthwaite, ≥ 1."""
        sides = (self.caught, self.images.oods), (self.passed, self.images.ids)
        parts = [(float(one @ one), max(effective_images(of) - 1, 1.0)) for one, of in sides]
        whole = sum(part for part, _ in parts)
        if whole <= _ROUNDING:
            return min(freedom for _, freedom in parts)
        return whole**2 / sum(part**2 / freedom for part, freedom in parts)


def auroc_interval(images: ImageCounts, level: float = 0.95) -> Interval:
    """Give the interval (low, high) of the AUROC of members that are correlated in images.

    It holds every value A that is not further from the AUROC than t standard deviations, where the
    variance is that of A, not that of the estimate (a score interval, as Wilson's of a share): near
    0 and 1 it is skewed, stays inside, and has a width where ID and OOD are separated perfectly.

    - The variance falls with A as that of two normal distributions of equal width does, with as
      many independent members as :func:`effective_members` says (Bamber 1975).
    - It is multiplied by r + max(1 − r, 0) · 5/(5 + e), where r is the variance of
      :func:`obuchowski` over that of the normal distributions, and e = (Σ u²)²/Σ u⁴ the number of
      images that share in the former. Few images that have errors show too little of how large
      errors can be, so that their variance is drawn towards that of the model; not with many.
    - The quantile is Student's, with the degrees of freedom of Welch and Satterthwaite for OOD and
      ID images, whose numbers (Σ m)²/Σ m² are those of images of equal size.

    The 5 was chosen by simulation (``docs/members.md`` has the coverage). None of it is of
    Obuchowski 1997 but the variance.

    Raises:
        DataError: There are no ID members or no OOD members, or the level is not in (0, 1).
    """
    tail = _tail(level)
    sums = Sums.of(images)
    if images.units < 2:
        return 0.0, 1.0
    value = sums.auroc
    members = effective_members(images.ids), effective_members(images.oods)
    modelled, seen = _normal_variance(value, *members), sums.variance
    excess = inflation(seen, modelled, sums.caught + sums.passed)
    spread = float(stdtrit(sums.freedom, 1 - tail)) ** 2 * excess

    def outside(area: float) -> float:
        return (value - area) ** 2 - spread * _normal_variance(area, *members)

    edges = min(value, 1 - _EDGE), max(value, _EDGE)
    low = 0.0 if value <= _EDGE else float(brentq(outside, 0.0, edges[0]))
    return low, 1.0 if value >= 1 - _EDGE else float(brentq(outside, edges[1], 1.0))


def inflation(seen: float, modelled: float, shares: Array) -> float:
    """Give by how much a modelled variance is to be multiplied: see :func:`auroc_interval`.

    Args:
        seen: The variance over images.
        modelled: The variance that independent members would have.
        shares: (I,) what each image adds to the estimate; their squares add up to ``seen``, nearly.
    """
    if modelled <= _ROUNDING or seen <= _ROUNDING:
        return 1.0
    ratio = seen / modelled
    return ratio + max(1 - ratio, 0.0) * prior_weight(shares)


def prior_weight(shares: Array) -> float:
    """Give 5/(5 + e), e the number of images that share in a variance; 1 where it is 0."""
    squares = shares**2
    whole = float(squares.sum())
    if whole <= _ROUNDING:
        return 1.0
    return _PRIOR_IMAGES / (_PRIOR_IMAGES + whole**2 / float((squares**2).sum()))


def effective_members(counts: Any) -> float:
    """Give how many independent members tell as much as the correlated ones of a class.

    Kish 1965: M²/Σ m_i (1 + (m_i − 1) ρ) with ρ the correlation of two members of an image, here of
    their ranks within the class, so that a monotone transform changes nothing. It is estimated by
    the analysis of variance for images of different sizes (Donner 1986, International Statistical
    Review 54(1), sec. 2) and kept in [0, 1]; 1 where all scores are equal.

    Args:
        counts: Sparse (I, K) of one class, with at least 2 images that have members.
    """
    sizes = counts.sum(axis=1)
    total = counts.sum(axis=0)
    ranks = placements(total) - 0.5
    sums, squares = (counts @ ranks)[sizes > 0], float(total @ ranks**2)
    sizes = sizes[sizes > 0].astype(np.float64)
    number, members = len(sizes), sizes.sum()
    between = float((sums**2 / sizes).sum())
    within = max(squares - between, 0.0) / max(members - number, 1)
    between /= number - 1
    typical = (members - (sizes**2).sum() / members) / (number - 1)
    whole = between + (typical - 1) * within
    alike = 1.0 if whole <= 0 else min(max((between - within) / whole, 0.0), 1.0)
    return float(members**2 / (sizes * (1 + (sizes - 1) * alike)).sum())


def effective_images(counts: Any) -> float:
    """Give how many images of equal size those of a class are worth: (Σ m)²/Σ m², ≥ 1."""
    sizes = counts.sum(axis=1).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _stacked(images: Sequence[Runs], column: NDArray[np.int64]) -> Any:
    """Make each image a row, with the columns that bins have."""
    ends = np.cumsum([0, *(len(one.bins) for one in images)])
    bins, counts = (np.concatenate(part) for part in zip(*images, strict=True))
    return csr_array((counts, column[bins], ends), shape=(len(images), column[-1] + 1))


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


def _normal_variance(area: float, ids: float, oods: float) -> float:
    """Give the variance of the AUROC of so many members of two normal distributions.

    Bamber 1975, with Q the probability that two OOD members exceed one ID member, and by symmetry
    that one exceeds two: (A(1−A) + (m + n − 2)(Q − A²))/(mn); Q = A − 2T(Φ⁻¹(A), 1/√3), T of Owen.
    """
    single = area * (1 - area)
    double = single - 2 * owens_t(ndtri(area), 3**-0.5)
    return float((single + (ids + oods - 2) * double) / (ids * oods))


def _correction(number: int) -> float:
    return number / (number - 1)
