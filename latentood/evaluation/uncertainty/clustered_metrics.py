"""All metrics of members with intervals, differences of detectors, and means over OOD sets.

Images are the observations, as in :mod:`latentood.evaluation.uncertainty.clustered`. Nothing is
drawn: the AUROC has the interval of that module, an FPR95 one of its threshold joined with one of
its share, and other metrics a jackknife over images. Each comes with what every image adds to it,
so that detectors on the same images can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, logit, ndtri, stdtr, stdtrit

from latentood.errors import DataError
from latentood.evaluation.metrics.counts import METRICS, Array, Metric, autc
from latentood.evaluation.uncertainty import clustered
from latentood.evaluation.uncertainty.clustered import ImageCounts, Interval, Sums

_BINS = 1024  # of scores in a jackknife
_GROUPS = 500  # of images in a jackknife
_RECALL = 0.95
_GRID = np.linspace(-6, 15, 768)  # of the scores of two normal distributions, in deviations
_PARTS = 1e9  # members of the model: what is rounded to whole ones is lost in so many


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric of members in images.

    Attributes:
        value: Of all members together, in [0, 1].
        low: The lower bound of its interval, ≥ 0.
        high: The upper bound, ≤ 1.
        shares: (I,) or fewer, what each image, or group of images, adds to the value, to first
            order; in the order of the images.
        freedom: Degrees of freedom of the quantile.
        level: Of the interval.
    """

    value: float
    low: float
    high: float
    shares: Array
    freedom: float
    level: float


@dataclass(frozen=True)
class Difference:
    """One detector less another on the same images: value, interval, two-sided p in [0, 1]."""

    value: float
    low: float
    high: float
    p: float


def estimates(
    images: ImageCounts, *, metrics: Mapping[str, Metric] = METRICS, level: float = 0.95
) -> Mapping[str, Estimate]:
    """Give metrics with intervals, for members correlated in images.

    - ``auroc`` has :func:`clustered.auroc_interval`.
    - ``fpr95_ood`` and ``fpr95_id`` have an interval of the threshold: :func:`_false_alarms`.
    - All others are smooth, and have a jackknife over images: :func:`_jackknifed`.

    With fewer than 2 images of a class intervals are [0, 1].

    Args:
        images: Counts of every image.
        metrics: Functions of counts by name, of those of ``counts.metrics_at``.
        level: Share of repeated experiments whose interval holds the true value, nearly.

    Raises:
        DataError: There are no ID members or no OOD members, or the level is not in (0, 1).
    """
    sums = Sums.of(images)
    bounds = clustered.auroc_interval(images, level)
    if images.units < 2:
        values = {name: float(one(*images.totals)) for name, one in metrics.items()}
        nothing = np.zeros(images.ids.shape[0])
        return {name: Estimate(value, 0, 1, nothing, 1, level) for name, value in values.items()}
    auroc = Estimate(sums.auroc, *bounds, sums.caught + sums.passed, sums.freedom, level)
    rough = _grouped(images)
    own = {
        "auroc": lambda: auroc,
        "fpr95_ood": lambda: _false_alarms(images.ids[:, ::-1], images.oods[:, ::-1], level),
        "fpr95_id": lambda: _false_alarms(images.oods, images.ids, level),
        "detection_error": lambda: _jackknifed(
            METRICS["detection_error"], images, rough, auroc, _crossed_error(rough)
        ),
    }
    return {
        name: own[name]() if name in own else _jackknifed(metric, images, rough, auroc)
        for name, metric in metrics.items()
    }


def autc_estimate(images: ImageCounts, level: float = 0.95) -> Estimate:
    """Give the AUTC with its interval, for members whose scores are known.

    It is ½ · (1 + (mean ID − mean OOD) / width), the width of all scores taken as known: a
    difference of two means over clusters (Student's t, with the freedom of the AUROC).

    Raises:
        DataError: There are no ID members or no OOD members, or their scores are not known.
    """
    if images.scores is None:
        raise DataError("clustered autc: scores must be known, got counts alone; give the scores")
    value = float(autc(*images.totals, images.scores))
    there = np.flatnonzero(images.totals[0] + images.totals[1])
    width = images.scores[there[-1]] - images.scores[there[0]]
    if images.units < 2 or width == 0:
        return Estimate(value, 0, 1, np.zeros(images.ids.shape[0]), 1, level)
    shares = sum(
        sign * (one @ images.scores - one.sum(axis=1) * (total @ images.scores) / total.sum())
        / total.sum()
        for sign, one, total in zip((1, -1), (images.ids, images.oods), images.totals, strict=True)
    ) / (2 * width)  # fmt: skip
    freedom = Sums.of(images).freedom
    number = len(shares)
    deviation = np.sqrt(number / (number - 1) * float(shares @ shares))
    half = float(stdtrit(freedom, (1 + level) / 2) * deviation)
    return Estimate(value, max(value - half, 0), min(value + half, 1), shares, freedom, level)


def difference(one: Estimate, other: Estimate) -> Difference:
    """Compare a metric of two detectors on the same images: ``one`` less ``other``.

    The interval joins those of the two (MOVER of Zou & Donner 2008, Statistics in Medicine
    27:1693-1702, eq. 11 with a correlation, which is that of what images add to them), so that it
    is skewed where they are. Scores of two detectors on the same images are alike: their
    difference is known better than either. p is that of Student's t, where the distance of the
    bound on the side of 0 is the quantile at the level times the deviation: p < 1 − level where
    the interval leaves 0 out.

    Images of two detectors line up where they were counted with the same ``ood`` and ``image``:
    which images are kept does not depend on scores.

    Raises:
        DataError: The number of images, or the levels of the two, are not the same.
    """
    if one.shares.shape != other.shares.shape or one.level != other.level:
        raise DataError(
            "clustered difference: needs two estimates of the same images and level, got "
            f"{one.shares.size} images at {one.level} and {other.shares.size} at {other.level}; "
            "score both detectors on the same splits"
        )
    return joined(one, other, _correlation(one.shares, other.shares))


def joined(one: Estimate, other: Estimate, alike: float) -> Difference:
    """Compare two estimates of one level: the interval and p-value of :func:`difference`.

    ``alike`` is their correlation: 0 where they are of rows that are independent of each other.
    """
    value = one.value - other.value
    below = _joined(one.value - one.low, other.high - other.value, alike)
    above = _joined(one.high - one.value, other.value - other.low, alike)
    width = below if value > 0 else above
    freedom = min(one.freedom, other.freedom)
    # rounding: identical scores differ by 0, and their interval has no width
    steps = abs(value) / max(width, 1e-12) * stdtrit(freedom, (1 + one.level) / 2)
    return Difference(value, value - below, value + above, float(2 * stdtr(freedom, -steps)))


def mean_estimate(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Average a metric over OOD sets, for tests of differences.

    Its interval is that of fully correlated sets: as they share ID images it is never too narrow.
    """
    value, low, high = (
        float(np.dot(weights, [getattr(one, name) for one in parts]))
        for name in ("value", "low", "high")
    )
    shares = np.concatenate([one.shares * w for one, w in zip(parts, weights, strict=True)])
    return Estimate(value, low, high, shares, min(one.freedom for one in parts), parts[0].level)


def mean_auroc(
    sets: Sequence[ImageCounts], *, shared: bool, level: float = 0.95
) -> tuple[float, float, float]:
    """Average the AUROC over OOD sets, each with equal weight: (mean, low, high) in [0, 1].

    The intervals of the sets are joined as in :func:`difference`. What AUROCs of two sets share is
    the ID images: their correlation is that part of Obuchowski's covariance over the deviations,
    and 1 where a deviation is 0.

    Args:
        sets: Counts of each OOD set with the ID images.
        shared: The ID members are the same in all sets, in images without OOD members, and come
            first. Else no image is in two sets, and they are independent.
        level: Of the interval.

    Raises:
        DataError: There is no set, one lacks a class, the level is not in (0, 1), or sets that
            should share ID images differ in them.
    """
    if not len(sets):
        raise DataError("clustered mean: needs at least one OOD set, got none; give its counts")
    sums = [Sums.of(one) for one in sets]
    values = np.array([one.auroc for one in sums])
    bounds = np.array([clustered.auroc_interval(one, level) for one in sets])
    alike = _shared_correlations(sums) if shared else np.eye(len(sums))
    mean = float(values.mean())
    halves = [np.sqrt(gaps @ alike @ gaps) / len(sums) for gaps in np.abs(bounds.T - values)]
    return mean, float(max(mean - halves[0], 0.0)), float(min(mean + halves[1], 1.0))


def _shared_correlations(sums: Sequence[Sums]) -> Array:
    passed = [one.passed[one.images.ids.sum(axis=1) > 0] for one in sums]
    sizes = [one.images.ids.sum(axis=1) for one in sums]
    sizes = [size[size > 0] for size in sizes]
    if not all(np.array_equal(size, sizes[0]) for size in sizes):
        raise DataError(
            "clustered mean: OOD sets must share their ID images, got other numbers of ID members; "
            "compare all of them with one ID split, or pass shared=False"
        )
    own = np.array([one.variance for one in sums])
    common = np.stack(passed) @ np.stack(passed).T * len(sizes[0]) / max(len(sizes[0]) - 1, 1)
    deviations = np.sqrt(np.outer(own, own))
    known = deviations > 0  # not so where it is NaN
    alike: Array = np.where(known, common / np.where(known, deviations, 1), 1)
    np.fill_diagonal(alike, 1)
    return np.clip(alike, -1, 1)


def _jackknifed(
    metric: Metric,
    images: ImageCounts,
    groups: ImageCounts,
    auroc: Estimate,
    crossed: float = 0.0,
) -> Estimate:
    """Give a smooth metric with its interval: a jackknife over images on the logit scale.

    Groups of images are left out one after the other, and the sum of the squared changes is the
    variance: as Efron & Stein 1981 show, that of the jackknife is too large rather than too small,
    and the factor (I − 1)/I is left out besides. Student's quantile has the degrees of freedom of
    the AUROC.

    Too few images with errors show too little of them, as with the AUROC. So a bound is moved by
    the share 5/(5 + e) of the way to the value that two normal distributions have at the bound of
    the AUROC, less what they have at the AUROC itself, where that is further out; e is the number
    of images that share in the variance.

    Args:
        metric: Function of counts.
        images: All counts.
        groups: The same members in :func:`_grouped` images.
        auroc: Its estimate.
        crossed: An estimate that is too high rather than too low, for a metric that is not.
    """
    value, numbers = float(metric(*images.totals)), [int(one.sum()) for one in images.totals]
    changed = metric(
        *(
            total[:, None] - one.T.toarray()
            for total, one in zip(groups.totals, (groups.ids, groups.oods), strict=True)
        )
    )
    centre, left = (_log_odds(one, sum(numbers)) for one in (value, changed))
    deviation = np.sqrt(((left - left.mean()) ** 2).sum())
    half = stdtrit(auroc.freedom, (1 + auroc.level) / 2) * deviation
    shares = left.mean() - left
    top = _log_odds(max(value, crossed), sum(numbers))
    low, high = min(expit(centre - half), value), max(expit(top + half), value)
    modelled = [_modelled(metric, area, *numbers) for area in (auroc.low, auroc.value, auroc.high)]
    weight = clustered.prior_weight(shares)
    low -= weight * max(low - (value + min(modelled) - modelled[1]), 0.0)
    high += weight * max(value + max(modelled) - modelled[1] - high, 0.0)
    bounds = float(max(low, 0)), float(min(high, 1))
    return Estimate(value, *bounds, shares, auroc.freedom, auroc.level)


def _crossed_error(groups: ImageCounts) -> float:
    """Give the mean error of each group at the threshold of the least error of all others.

    The least error over thresholds is too low, as it is chosen on the members it is measured on,
    the more so the closer it is to ½.
    """
    sides = [side.T.toarray() / side.sum() for side in (groups.ids, groups.oods)]
    below = [np.cumsum(side, axis=0) for side in sides]
    left = [side.sum(axis=1, keepdims=True) - side for side in below]
    kept, missed = (side / side[-1] for side in left)
    best = np.argmin(missed - kept, axis=0)[None]
    right, wrong = (np.take_along_axis(side, best, axis=0).sum() for side in below)
    return float(wrong + 1 - right) / 2


def _grouped(images: ImageCounts) -> ImageCounts:
    """Add up images until there are at most 500, and join scores to 1,024 bins of equal size."""
    rough = images.coarse(_BINS)
    number = rough.ids.shape[0]
    if number <= _GROUPS:
        return rough
    # In the order of their classes, so that no group has all images of a class.
    order = np.lexsort([rough.oods.sum(axis=1) > 0, rough.ids.sum(axis=1) > 0])
    place = np.arange(number) % _GROUPS
    chosen = csr_array((np.ones(number, np.int64), (place, order)), shape=(_GROUPS, number))
    return ImageCounts(chosen @ rough.ids, chosen @ rough.oods)


def _modelled(metric: Metric, area: float, ids: int, oods: int) -> float:
    """Give the metric of two normal distributions of equal width with this AUROC."""
    shift = 2**0.5 * ndtri(np.clip(area, 1e-9, 1 - 1e-9))
    counts = []
    for centre, number in ((max(-shift, 0), ids), (max(shift, 0), oods)):
        density = np.exp(-((_GRID - centre) ** 2) / 2)
        counts.append(density / density.sum() * number / (ids + oods) * _PARTS)
    return float(metric(*counts))


def _false_alarms(negatives: Any, positives: Any, level: float) -> Estimate:
    """Give an FPR95 with its interval, which has two parts.

    - The threshold is uncertain: it holds all recalls r at which 95% is not refused, by |r − 95%|
      of at most t deviations of a share of 95% of so many independent members as
      :func:`clustered.effective_members` gives, inflated as the variance of the AUROC is. The share
      of negatives at these thresholds bounds it (Woodruff 1952, JASA 47:635-646). Where even the
      lowest positive does not refuse 95%, as with fewer than about 72 independent ones, nothing
      says how many negatives pass below it, and the bound is 1.
    - The share at the threshold is uncertain: Wilson's interval, with the same two corrections.

    They are joined by MOVER (:func:`difference`), as if independent of each other: where images
    have members of both classes that move together, this is too wide rather than too narrow.

    Args:
        negatives: Sparse (I, K), by the order in which scores pass.
        positives: Sparse (I, K).
        level: Of the interval.
    """
    fewer, more = negatives.sum(axis=0), positives.sum(axis=0)
    passed, caught = np.cumsum(fewer) / fewer.sum(), np.cumsum(more)
    last = int(np.searchsorted(caught, (19 * caught[-1] + 19) // 20))
    value = float(passed[last])
    of_recall, of_share = (_Share.of(one, last) for one in (positives, negatives))
    half = of_recall.quantile(level) * np.sqrt(of_recall.spread * _RECALL * (1 - _RECALL))

    def at(share: float) -> float:
        place = int(np.searchsorted(caught, share * caught[-1] - 1e-9))
        return float(passed[min(place, len(passed) - 1)])

    least, most = at(max(_RECALL - half, 0)), at(min(_RECALL + half, 1))
    slope = (most - least) / max(min(_RECALL + half, 1) - max(_RECALL - half, 0), 1e-9)
    low, high = of_share.interval(level)
    lower = np.hypot(max(value - least, 0), max(value - low, 0))
    upper = np.hypot((most if _RECALL + half < 1 else 1) - value, max(high - value, 0))
    return Estimate(
        value,
        float(max(value - lower, 0)),
        float(min(value + upper, 1)),
        of_share.shares - slope * of_recall.shares,
        min(of_share.freedom, of_recall.freedom),
        level,
    )


@dataclass(frozen=True, eq=False)
class _Share:
    """The share of members that pass, in images."""

    value: float
    spread: float  # variance over value (1 − value)
    shares: Array
    freedom: float

    @classmethod
    def of(cls, counts: Any, last: int) -> _Share:
        sizes = counts.sum(axis=1)
        value = float(counts[:, : last + 1].sum() / sizes.sum())
        shares = (counts[:, : last + 1].sum(axis=1) - sizes * value) / sizes.sum()
        number = int((sizes > 0).sum())
        members = clustered.effective_members(counts)
        seen = number / (number - 1) * float(shares @ shares)
        spread = clustered.inflation(seen, value * (1 - value) / members, shares) / members
        return cls(value, spread, shares, max(clustered.effective_images(counts) - 1, 1.0))

    def quantile(self, level: float) -> float:
        return float(stdtrit(self.freedom, (1 + level) / 2))

    def interval(self, level: float) -> Interval:
        """Give Wilson's, 1927."""
        width = self.quantile(level) ** 2 * self.spread
        middle = (self.value + width / 2) / (1 + width)
        half = np.sqrt(width * self.value * (1 - self.value) + width**2 / 4) / (1 + width)
        return float(middle - half), float(middle + half)


def _log_odds(share: Any, members: int) -> Any:
    """Give the logit, kept away from 0 and 1 by half the least AUPR that members can lose."""
    edge = max(0.5 / members**2, 1e-12)
    return logit(edge + np.asarray(share) * (1 - 2 * edge))


def _correlation(one: Array, other: Array) -> float:
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return 1.0 if np.array_equal(one, other) else float(one @ other) / scale if scale else 0.0


def _joined(one: float, other: float, alike: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * alike * one * other, 0.0)))
