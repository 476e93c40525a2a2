"""The two sides of a comparison, ID and OOD scores, and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation import metrics
from latentood.evaluation.members.histograms import NO_RUNS, Runs, ScoreHistogram
from latentood.evaluation.members.maps import Scale, pixel_runs
from latentood.evaluation.metrics import Array, counts
from latentood.evaluation.metrics.counts import Metric
from latentood.evaluation.truth import Truth
from latentood.evaluation.uncertainty import clustered_metrics, independent, resampling
from latentood.evaluation.uncertainty.clustered import ImageCounts, Interval
from latentood.evaluation.uncertainty.clustered_metrics import Estimate, autc_estimate, estimates
from latentood.evaluation.uncertainty.resampling import Resamples
from latentood.evaluation.warnings import tie_rate
from latentood.latents.facts import ID, IGNORED, OOD

_SAMPLES, _LEAST_SAMPLES = 1000, 100
_MOST_DRAWN = 200_000_000  # bytes of draws of an OOD split


@dataclass(frozen=True, eq=False)
class Measures:
    """What is asked of every contrast of a comparison, and the draws that all detectors share."""

    prevalence: float = 0.5  # share of OOD in ``aupr_out_at``
    _draws: dict[tuple[int, int, int], Resamples] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """All metrics of counts, by name."""
        return counts.metrics_at(self.prevalence)

    def draws(self, n_id: int, n_ood: int, number: int) -> Resamples:
        """Draw the rows of an OOD split and its ID rows once; fewer samples of very many rows."""
        known = self._draws.get((n_id, n_ood, number))
        if known is None:
            resamples = max(_LEAST_SAMPLES, min(_SAMPLES, _MOST_DRAWN // (n_id + n_ood)))
            alike = (one for one in self._draws.values() if one.ids.shape == (n_id, resamples))
            first = next(alike, None)
            known = (
                Resamples.of(n_id, n_ood, resamples=resamples, ood_set=number)
                if first is None
                else first.beside(n_ood, number)
            )
            self._draws[n_id, n_ood, number] = known
        return known


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

    def intervals(self) -> Mapping[str, Interval]:
        """Give the 95% interval of each."""


@dataclass(frozen=True, eq=False)
class OfRows:
    """Rows that are independent of each other."""

    ids: Array
    oods: Array
    asked: Measures
    number: int = 0  # of the OOD split, so that its rows are drawn independently of others

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
        scores, (ids, oods) = counts.table(self.ids, self.oods)
        values = {name: float(one(ids, oods)) for name, one in self.asked.metrics.items()}
        exact = {"auroc": metrics.auroc(self.ids, self.oods)}  # free of rounding
        return values | exact | {"autc": float(counts.autc(ids, oods, scores))}

    def intervals(self) -> Mapping[str, Interval]:
        """Give those of independent rows."""
        return {
            "auroc": independent.auroc_interval(self.ids, self.oods),
            "autc": independent.autc_interval(self.ids, self.oods),
            **resampling.intervals(
                self._draws, self.ids, self.oods, self.samples, prevalence=self.asked.prevalence
            ),
        }

    @cached_property
    def samples(self) -> Mapping[str, Array]:
        """Metrics of bootstrap samples, whose draws of rows are those of all detectors."""
        return resampling.resampled(
            self._draws, self.ids, self.oods, prevalence=self.asked.prevalence
        )

    @property
    def _draws(self) -> Resamples:
        return self.asked.draws(self.n_id, self.n_ood, self.number)


@dataclass(frozen=True, eq=False)
class OfMembers:
    """Members of images, or their pixels, correlated within an image."""

    images: ImageCounts
    asked: Measures
    pixels: ScoreHistogram | None = None  # of all images together, where pixels are compared

    @property
    def n_id(self) -> int:
        """Count the ID members or pixels."""
        return int(self.images.totals[0].sum())

    @property
    def n_ood(self) -> int:
        """Count the OOD ones."""
        return int(self.images.totals[1].sum())

    @property
    def ties(self) -> float:
        """Share of pairs with equal scores."""
        ids, oods = (total.astype(np.float64) for total in self.images.totals)
        return float((ids / ids.sum()) @ (oods / oods.sum()))

    def metrics(self) -> Mapping[str, float]:
        """Compute them of the counts."""
        return {name: one.value for name, one in self.estimates.items()}

    def intervals(self) -> Mapping[str, Interval]:
        """Give those of members that are correlated in images."""
        return {name: (one.low, one.high) for name, one in self.estimates.items()}

    @cached_property
    def estimates(self) -> Mapping[str, Estimate]:
        """All metrics with their intervals, and what each image adds to them."""
        ranked = estimates(self.images, metrics=self.asked.metrics)
        return {**ranked, "autc": autc_estimate(self.images)}


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


def contrast(ids: Side, oods: Side, asked: Measures, number: int = 0) -> Contrast:
    """Put ID rows of one split beside OOD rows of another, or of the same.

    Args:
        ids: The split of the ID rows.
        oods: The split of the OOD rows; the same object for a split that has both.
        asked: What to measure.
        number: Of the OOD split among those of a comparison.
    """
    if ids.truth.unit == "image":
        return OfRows(ids.of(False), oods.of(True), asked, number)
    if ids.truth.pixels is not None:
        total = ScoreHistogram()
        images = ImageCounts.of_images(_added(_pixels(ids, oods), total))
        return OfMembers(images, asked, total)
    if ids is oods:
        return OfMembers(_counts([ids], [ids.truth.ood]), asked)
    known = [_only(ids.truth.ood, ID), _only(oods.truth.ood, OOD)]
    return OfMembers(_counts([ids, oods], known), asked)


def average(
    ids: Sequence[Side], oods: Sequence[Side], parts: Sequence[Contrast]
) -> tuple[float, float, float]:
    """Average the AUROC over OOD splits, each with equal weight: mean, low and high.

    Splits that are compared with the same ID split are correlated, and splits that have ID and OOD
    rows themselves are independent of each other.
    """
    shared = ids[0] is not oods[0]
    if isinstance(parts[0], OfRows) and shared:
        return independent.mean_auroc(ids[0].of(False), [side.of(True) for side in oods])
    if isinstance(parts[0], OfRows):
        values = [part.metrics()["auroc"] for part in parts]
        return independent.joined_mean(values, [part.intervals()["auroc"] for part in parts])
    images = [part.images for part in parts if isinstance(part, OfMembers)]
    return clustered_metrics.mean_auroc(images, shared=shared)


def _pixels(ids: Side, oods: Side) -> Iterator[tuple[Runs, Runs]]:
    """Count the ID pixels of the images of one side, and the OOD pixels of the other's."""
    for side in dict.fromkeys((ids, oods)):  # once where they are the same
        if side.truth.pixels is not None:
            for known, unknown in pixel_runs(side.scores, side.truth.pixels, ids.scale):
                yield known if side is ids else NO_RUNS, unknown if side is oods else NO_RUNS


def _added(
    images: Iterable[tuple[Runs, Runs]], total: ScoreHistogram
) -> Iterator[tuple[Runs, Runs]]:
    """Add the counts of images up while they are read."""
    for one in images:
        for row, runs in enumerate(one):
            total.counts[row, runs.bins] += runs.counts
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
