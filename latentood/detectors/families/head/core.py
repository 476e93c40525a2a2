"""Confidence along the weight of the predicted class, and membership in what it leaves over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from latentood.detectors.base import Detector, State
from latentood.detectors.checks import checked_head, no_spread
from latentood.detectors.statistics.classes import CorrectClassMeans
from latentood.latents import (
    HEAD,
    LABELS,
    LOGITS,
    PENULTIMATE_FEATURES,
    Accumulator,
    Latents,
    Reading,
    Statistic,
)
from latentood.plugins import plugin
from latentood.stats.moments import column_scale


@dataclass(frozen=True, eq=False)
class Signals:
    """What turns rows into confidence and membership."""

    along: Tensor  # (C, D) float64, weights of the head scaled to length 1
    beside: Tensor  # (C, D) float64, length 1: mean features of a class without their part along

    def of(self, rows: Latents) -> Tensor:
        """Give log Σ exp z, and the cosine of the residual with that of its class: (N, 2)."""
        logits = rows.double(LOGITS)
        predicted = logits.argmax(dim=1)
        residual = without(rows.double(PENULTIMATE_FEATURES), self.along[predicted])
        membership = (normalize(residual) * self.beside[predicted]).sum(dim=1)
        return torch.stack([logits.logsumexp(dim=1), membership], dim=1)


@dataclass(frozen=True)
class SignalSpread:
    """The signals, with their means and deviations (2, 2) over the fit rows; 1 where constant."""

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads, beside the head."""
        return (PENULTIMATE_FEATURES, LOGITS)

    def start(self, source: Latents) -> Accumulator[tuple[Signals, Tensor]]:
        """Look the class means up and begin the second read."""
        along = normalize(checked_head("core", source)[0])
        means = source.compute(CorrectClassMeans(PENULTIMATE_FEATURES)).means
        signals = Signals(along, normalize(without(means, along)))
        parts: list[Tensor] = []

        def finish() -> tuple[Signals, Tensor]:
            variance, mean = torch.var_mean(torch.cat(parts), dim=0, correction=0)
            return signals, torch.stack([mean, column_scale(mean, variance)])

        return Reading(lambda chunk: parts.append(signals.of(chunk)), finish)


@plugin
class CORE(Detector):
    """Confidence and residual membership, each in standard deviations of the fit rows, added up.

    ``−(s(logsumexp z) + s(cos(r, r̄_ŷ)))`` with s(x) = (x − mean)/deviation, the residual
    ``r = h − ⟨h, ŵ_ŷ⟩·ŵ_ŷ`` of the features beside the weight of the predicted class, and r̄_c that
    of the mean features of class c; Yang, Kim and Bahk 2026.

    The equations could not be read. Followed are the abstract (a part along the classifier, a
    residual with a direction for each class, a normalised sum) and summaries of the paper (energy,
    cosine, z-scores, work O(D) per row). Ours to fill in: the part along the classifier is that
    along one weight, since the weights of all classes together leave nothing over for ViT-B/16 on
    ImageNet, which the authors use; r̄_c is the mean over the correctly classified fit rows (of all
    rows of the class, or of all rows, where there are none); mean and deviation are over all fit
    rows, and a signal that is the same in all of them is not divided.
    """

    name = "core"
    family = "head"
    paper = "arXiv:2603.18290, abstract"
    works = "Where it is not known whether logits or features tell: the two fail independently."
    fails = "OOD of classes close to ID ones, whose residuals point as theirs do."
    cost = "O(N·D) fit in two passes, O(C + D) per row"
    cannot_fit_on = ("one row",)
    reads = (PENULTIMATE_FEATURES, LOGITS)
    fit_reads = (PENULTIMATE_FEATURES, LOGITS, LABELS, HEAD)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the class means, then for the spread of both signals."""
        return (CorrectClassMeans(PENULTIMATE_FEATURES), SignalSpread())

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the directions along and beside each class (C, D), mean and spread (2, 2)."""
        signals, moments = train.compute(SignalSpread())
        if bool((moments[1] == 1).all()):
            raise no_spread(f"{self.name}: energies or residuals", len(train), train)
        return {"along": signals.along, "beside": signals.beside, "moments": moments}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report mean and deviation of both signals over the fit rows."""
        (energy, cosine), (energy_spread, cosine_spread) = state["moments"].tolist()
        return {
            "energy": {"mean": energy, "deviation": energy_spread},
            "residual_cosine": {"mean": cosine, "deviation": cosine_spread},
        }

    def score(self, state: State, rows: Latents) -> Tensor:
        """Add the standardised signals and negate: (N,)."""
        mean, spread = state["moments"]
        signals = Signals(state["along"], state["beside"]).of(rows)
        standardised: Tensor = (signals - mean) / spread
        return -standardised.sum(dim=1)


def without(rows: Tensor, directions: Tensor) -> Tensor:
    """Take out of rows (n, D) their part along directions of length 1 (n, D)."""
    return rows - (rows * directions).sum(dim=1, keepdim=True) * directions
