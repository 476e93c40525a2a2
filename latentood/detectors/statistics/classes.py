"""Statistics of the classes of the fit rows: means, scatter, tails, typical predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics.base import (
    FLOAT64,
    OfArray,
    OfClasses,
    class_count,
    width_of,
)
from latentood.detectors.statistics.moments import Moments
from latentood.latents import LABELS, LOGITS, Accumulator, Latents, Reading
from latentood.stats.linalg import Covariance, lengths
from latentood.stats.moments import ClassSums
from latentood.stats.probabilities import softmax
from latentood.stats.products import add_self_products


@dataclass(frozen=True, eq=False)
class Centres:
    """Means of the classes that occur."""

    labels: Tensor  # (K,) int64, ascending
    counts: Tensor  # (K,) float64, rows of each class
    means: Tensor  # (K, D) float64


@dataclass(frozen=True)
class ClassMeans(OfClasses):
    """Class means alone, without the scatter that ``ClassMoments`` needs."""

    def nbytes(self, source: Latents) -> int:
        """Estimate sums and means (K, D)."""
        return 2 * FLOAT64 * class_count(source) * width_of(source, self.key)

    def start(self, source: Latents) -> Accumulator[Centres]:
        """Begin a read of ``source``."""
        present = source[LABELS].long().unique()
        sums = ClassSums(len(present), source.shape(self.key)[1], present.device)

        def take(chunk: Latents) -> None:
            place = torch.searchsorted(present, chunk[LABELS].long())
            sums.add(chunk[self.key], place)

        return Reading(take, lambda: Centres(present, sums.counts, sums.means()))


@dataclass(frozen=True)
class ClassScatters(OfClasses):
    """The second read of ddu: scatter of every class about its mean, once the means are known.

    The result is (K, D, D) float64, not divided by the counts.
    """

    def nbytes(self, source: Latents) -> int:
        """Estimate the scatters."""
        return FLOAT64 * class_count(source) * width_of(source, self.key) ** 2

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Find the means and begin the read."""
        centres = source.compute(ClassMeans(self.key))
        classes, width = centres.means.shape
        scatters = centres.means.new_zeros(classes, width, width)

        def take(chunk: Latents) -> None:
            place = torch.searchsorted(centres.labels, chunk[LABELS].long())
            order = place.argsort(stable=True)
            centred = chunk.double(self.key)[order] - centres.means[place[order]]
            sizes = torch.bincount(place, minlength=classes).tolist()
            add_self_products(scatters, centred.split(sizes))

        return Reading(take, lambda: scatters)


@dataclass(frozen=True, eq=False)
class Classes:
    """Means of the classes that occur, and the covariance they share."""

    means: Tensor  # (K, D) float64, in order of label
    tied: Covariance  # of the rows about the mean of their class


@dataclass(frozen=True)
class ClassMoments(OfArray):
    """Class means and tied covariance, from :class:`Moments` and :class:`ClassMeans`.

    Detectors ask for those two as well, so that all come from one read.
    """

    def keys(self) -> tuple[str, ...]:
        """Read nothing: it follows from the others."""
        return ()

    def nbytes(self, source: Latents) -> int:
        """Estimate the tied covariance (D, D)."""
        return FLOAT64 * width_of(source, self.key) ** 2

    def start(self, source: Latents) -> Accumulator[Classes]:
        """Take the scatter between classes out of the total."""
        moments = source.compute(Moments(self.key))
        centres = source.compute(ClassMeans(self.key))
        tied = moments.tied(centres.counts, centres.means)
        return Reading(lambda chunk: None, lambda: Classes(centres.means, tied))


@dataclass(frozen=True, eq=False)
class Patterns:
    """One mean per class of the model's output."""

    means: Tensor  # (C, D) float64
    no_correct: tuple[int, ...]  # classes without a correct fit row: mean of all their rows
    absent: tuple[int, ...]  # classes without fit rows: mean of all rows


@dataclass(frozen=True)
class CorrectClassMeans(OfArray):
    """Mean of the correctly classified rows of each class."""

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LOGITS, LABELS)

    def nbytes(self, source: Latents) -> int:
        """Estimate sums (2·C, D) and means (C, D)."""
        return 3 * FLOAT64 * source.shape(LOGITS)[1] * width_of(source, self.key)

    def start(self, source: Latents) -> Accumulator[Patterns]:
        """Begin a read of ``source``."""
        classes, width = source.shape(LOGITS)[1], source.shape(self.key)[1]
        device = source.read(LOGITS, 0, 1).device
        both = ClassSums(2 * classes, width, device)  # of a class, the misclassified come second

        def take(chunk: Latents) -> None:
            labels = chunk[LABELS].long()
            missed = chunk[LOGITS].argmax(dim=1) != labels
            both.add(chunk[self.key], 2 * labels + missed)

        return Reading(take, lambda: _patterns(both.sums.unflatten(0, (-1, 2)), both.counts))


def _patterns(sums: Tensor, counts: Tensor) -> Patterns:
    """Fill the classes without correct rows from all their rows, or from all rows.

    ``sums`` (C, 2, D) and ``counts`` (2·C,) are of the correctly classified rows and of the others.
    """
    correct, every = counts[::2].unsqueeze(1), counts.view(-1, 2).sum(dim=1, keepdim=True)
    total = sums.sum(dim=1)
    own = torch.where(every > 0, total / every, total.sum(dim=0) / every.sum())
    no_correct, absent = (correct == 0) & (every > 0), every == 0
    return Patterns(
        torch.where(correct > 0, sums[:, 0] / correct, own),
        tuple(no_correct.flatten().nonzero().flatten().tolist()),
        tuple(absent.flatten().nonzero().flatten().tolist()),
    )


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Mean softmax of the rows predicted as each class."""

    means: Tensor  # (C, C) float64, one distribution in each row; 0 for a class never predicted
    counts: Tensor  # (C,) rows predicted as each class


@dataclass(frozen=True)
class PredictedPosteriors:
    """The typical softmax of every predicted class."""

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (LOGITS,)

    def nbytes(self, source: Latents) -> int:
        """Estimate sums and means (C, C)."""
        return 2 * FLOAT64 * source.shape(LOGITS)[1] ** 2

    def start(self, source: Latents) -> Accumulator[Posteriors]:
        """Begin a read of ``source``."""
        classes = source.shape(LOGITS)[1]
        sums = ClassSums(classes, classes, source.read(LOGITS, 0, 1).device)

        def take(chunk: Latents) -> None:
            logits = chunk.double(LOGITS)
            sums.add(softmax(logits), logits.argmax(dim=1))

        return Reading(take, lambda: Posteriors(sums.means(), sums.counts))


@dataclass(frozen=True)
class CorrectTails:
    """The largest distances of correctly classified rows to the mean logits of their class.

    The result is (C, size) float64, largest first; classes with fewer rows are filled with 0.
    """

    size: int

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (LOGITS, LABELS)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Look the class means up and begin the second read."""
        means = source.compute(CorrectClassMeans(LOGITS)).means
        tails = means.new_zeros((len(means), self.size))

        def take(chunk: Latents) -> None:
            logits, labels = chunk.double(LOGITS), chunk[LABELS].long()
            hit = chunk[LOGITS].argmax(dim=1) == labels
            own = labels[hit]
            distances = lengths(logits[hit] - means[own])
            tails.copy_(_merged(tails, distances, own))

        return Reading(take, lambda: tails)


def _merged(tails: Tensor, distances: Tensor, label: Tensor) -> Tensor:
    """Take new distances (n,) of classes (n,) into the largest of each class (C, K)."""
    classes, size = tails.shape
    known = torch.arange(classes, device=label.device).repeat_interleave(size)
    values, label = torch.cat([tails.flatten(), distances]), torch.cat([known, label])
    # Sorted by value and then, stably, by class: each class is one run, its largest first.
    values, order = values.sort(descending=True)
    label, by_class = label[order].sort(stable=True)
    counts = torch.bincount(label, minlength=classes)  # ≥ K: each row of the tails takes part
    first = counts.cumsum(0) - counts
    place = first.unsqueeze(1) + torch.arange(size, device=label.device)
    return values[by_class][place]
