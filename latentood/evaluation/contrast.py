"""The two sides of a comparison, ID and OOD scores, and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation import metrics
from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.members.maps import Scale, pixel_histograms
from latentood.evaluation.metrics import Array
from latentood.evaluation.metrics.counts import METRICS
from latentood.evaluation.truth import Truth
from latentood.evaluation.uncertainty import clustered
from latentood.evaluation.uncertainty.clustered import ImageCounts, Interval
from latentood.evaluation.uncertainty.independent import auroc_interval, mean_auroc
from latentood.evaluation.warnings import tie_rate
from latentood.latents.facts import ID, IGNORED, OOD

_BINS = 1024  # of scores in a bootstrap


class Contrast(Protocol):
    """ID scores beside OOD scores."""

    @property
    def n_id(self) -> int:
        """Count the ID rows, members or pixels."""

    @property
    def n_ood(self) -> int:
        """Count the OOD ones."""

    @property
    def ties(self) -> float:
        """Share of pairs of an ID and an OOD score that are equal."""

    def metrics(self) -> Mapping[str, float]:
        """Give all metrics by name."""

    def interval(self) -> Interval:
        """Give the 95% interval of the AUROC."""

    def intervals(self) -> Mapping[str, Interval]:
        """Give the 95% intervals of other metrics, where there are any."""


@dataclass(frozen=True, eq=False)
class OfRows:
    """Rows that are independent of each other."""

    ids: Array
    oods: Array

    @property
    def n_id(self) -> int:
        """Count the ID rows."""
        return self.ids.size

    @property
    def n_ood(self) -> int:
        """Count the OOD rows."""
        return self.oods.size

    @property
    def ties(self) -> float:
        """Share of pairs with equal scores."""
        return tie_rate(self.ids, self.oods)

    def metrics(self) -> Mapping[str, float]:
        """Compute them of the scores."""
        return {name: float(getattr(metrics, name)(self.ids, self.oods)) for name in METRICS}

    def interval(self) -> Interval:
        """Give DeLong's."""
        return auroc_interval(self.ids, self.oods)

    def intervals(self) -> Mapping[str, Interval]:
        """Give none."""
        return {}


@dataclass(frozen=True, eq=False)
class OfMembers:
    """Members of images, or their pixels, correlated within an image."""

    counts: ImageCounts
    pixels: ScoreHistogram | None = None  # of all images together, where pixels are compared

    @property
    def n_id(self) -> int:
        """Count the ID members or pixels."""
        return int(self.counts.totals[0].sum())

    @property
    def n_ood(self) -> int:
        """Count the OOD ones."""
        return int(self.counts.totals[1].sum())

    @property
    def ties(self) -> float:
        """Share of pairs with equal scores."""
        ids, oods = (total.astype(np.float64) for total in self.counts.totals)
        return float((ids / ids.sum()) @ (oods / oods.sum()))

    def metrics(self) -> Mapping[str, float]:
        """Compute them of the counts."""
        return self._metrics

    def interval(self) -> Interval:
        """Give that of Obuchowski's variance."""
        return self._interval

    def intervals(self) -> Mapping[str, Interval]:
        """Give those of a bootstrap over images."""
        return clustered.bootstrap_over_images(self.counts.coarse(_BINS))

    @cached_property
    def _metrics(self) -> Mapping[str, float]:
        return {name: float(metric(*self.counts.totals)) for name, metric in METRICS.items()}

    @cached_property
    def _interval(self) -> Interval:
        return clustered.auroc_interval(self.counts)


@dataclass(frozen=True, eq=False)
class Side:
    """The scores of a split, and what its rows are."""

    scores: Array
    truth: Truth

    @cached_property
    def scale(self) -> Scale:
        """The scale of maps that are compared with this side as ID: that of its ID cells."""
        known = self.of(False)
        return Scale.of(known if known.size else self.scores)

    def of(self, ood: bool) -> Array:
        """Give the scores of its ID or of its OOD rows."""
        chosen: Array = self.scores[self.truth.ood == ood]
        return chosen

    def with_errors(self, right: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Side:
        """Put right predictions in the place of ID rows, and wrong ones in that of OOD rows."""
        ood = np.where(right, ID, np.where(wrong, OOD, IGNORED)).astype(np.uint8)
        return Side(self.scores, replace(self.truth, ood=ood, pixels=None))


def contrast(ids: Side, oods: Side) -> Contrast:
    """Put ID rows of one split beside OOD rows of another, or of the same.

    Args:
        ids: The split of the ID rows.
        oods: The split of the OOD rows; the same object for a split that has both.
    """
    if ids.truth.unit == "image":
        return OfRows(ids.of(False), oods.of(True))
    if ids.truth.pixels is not None:
        total = ScoreHistogram()
        counts = ImageCounts.of_histograms(_added(_histograms(ids, oods), total))
        return OfMembers(counts, total)
    if ids is oods:
        return OfMembers(_counts([ids], [ids.truth.ood]))
    known = [_only(ids.truth.ood, ID), _only(oods.truth.ood, OOD)]
    return OfMembers(_counts([ids, oods], known))


def average(
    ids: Sequence[Side], oods: Sequence[Side], parts: Sequence[Contrast]
) -> tuple[float, float, float]:
    """Average the AUROC over OOD splits, each with equal weight: mean, low and high.

    Rows have the interval of :func:`mean_auroc`. Of members, and of splits that have ID and OOD
    rows, it is the mean of the intervals of the splits, as if these were fully correlated: it is
    never too narrow.
    """
    shared = all(side is ids[0] for side in ids) and ids[0] is not oods[0]
    if shared and isinstance(parts[0], OfRows):
        return mean_auroc(ids[0].of(False), [side.of(True) for side in oods])
    values = [(part.metrics()["auroc"], *part.interval()) for part in parts]
    mean, low, high = np.mean(values, axis=0).tolist()
    return mean, low, high


def _histograms(ids: Side, oods: Side) -> Iterator[ScoreHistogram]:
    """Count the pixels of all images of one side and of the other."""
    scale, same = ids.scale, ids is oods
    for side, other in ((ids, False), *([] if same else [(oods, True)])):
        if side.truth.pixels is not None:
            yield from pixel_histograms(
                side.scores, side.truth.pixels, scale, ids=not other, oods=other or same
            )


def _added(histograms: Iterable[ScoreHistogram], total: ScoreHistogram) -> Iterator[ScoreHistogram]:
    """Add histograms up while they are read."""
    for one in histograms:
        total.counts += one.counts
        yield one


def _only(ood: NDArray[np.uint8], kept: int) -> NDArray[np.uint8]:
    return np.where(ood == kept, ood, IGNORED).astype(np.uint8)


def _counts(sides: Sequence[Side], ood: Sequence[NDArray[np.uint8]]) -> ImageCounts:
    lead = 0
    images = []
    for side in sides:
        images.append(side.truth.image + lead)
        lead += side.truth.images
    scores = np.concatenate([side.scores for side in sides])
    return ImageCounts.of_members(scores, np.concatenate(ood), np.concatenate(images))
