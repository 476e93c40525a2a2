"""Predictive normalised maximum likelihood: the regret of a learner that is given the label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.moments import UnitScatter
from latentood.errors import DetectorError
from latentood.latents import HEAD, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import plugin
from latentood.stats.linalg import lengths, unit_rows

OUTSIDE = 1e-6
"""A unit row with a longer part outside the span of the fit rows is not in it; below is
rounding."""


@plugin
class PNML(Detector):
    """Regret of the predictive normalised maximum likelihood learner of one linear layer, nats.

    ``log Σ_i p_i / (p_i + (1−p_i)·p_i^κ)`` with ``κ = q/(1+q)``, ``q = ĥᵀ(X̂ᵀX̂)⁺ĥ`` where ĥ lies
    in the span of the fit rows, and κ = 1 where it does not (a part longer than 1e-6 is left
    over). Bibas et al. 2021. As there, all features are scaled to length 1, also those the head
    reads: p = softmax(W·ĥ + b) is not the softmax of the cached logits. The authors' code divides
    by log C and leaves out the case κ = 1; so does pytorch-ood.
    """

    name = "pnml"
    family = "head"
    paper = "arXiv:2110.09246, theorem 1"
    works = "Features of full rank, where OOD has a part along directions the fit rows hardly use."
    fails = "Fewer rows than dimensions: every new row is outside their span, and only p is left."
    cost = "O(N·D² + D³) fit, O(D² + C·D) per row"
    reads = (PENULTIMATE_FEATURES,)
    fit_reads = (PENULTIMATE_FEATURES, HEAD)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the scatter of unit rows."""
        return (UnitScatter(PENULTIMATE_FEATURES),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the whitened span (D, r), what is outside it (D, D−r), and the head."""
        weight, bias = checked_head(self.name, train)
        scatter = train.compute(UnitScatter(PENULTIMATE_FEATURES))
        rank = scatter.rank
        if rank == 0:
            raise DetectorError(
                f"{self.name}: {PENULTIMATE_FEATURES} must not be 0 everywhere, got "
                f'{len(train)} such rows in "{train.name}"; look at the extraction'
            )
        values, vectors = scatter.spectrum
        return {
            "span": vectors[:, :rank] * values[:rank].rsqrt(),
            "outside": vectors[:, rank:],
            "weight": weight,
            "bias": bias,
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the rank of the fit rows."""
        width, rank = state["span"].shape
        return {"rank": rank, "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Sum over the labels the learner might be given: (N,) in [0, log C]."""
        unit = unit_rows(rows[PENULTIMATE_FEATURES])
        log_p = (unit @ state["weight"].mT + state["bias"]).log_softmax(dim=1)
        energy = (unit @ state["span"]).square().sum(dim=1)
        new = lengths(unit @ state["outside"]) > OUTSIDE
        power = torch.where(new, 1.0, energy / (1 + energy)).unsqueeze(1)
        # p/(p + (1−p)·p^κ) as a sigmoid, so that a probability of 0 makes no 0/0
        odds = (1 - power) * log_p - torch.log1p(-log_p.exp())
        return odds.sigmoid().sum(dim=1).log().clamp(min=0.0)  # rounding can pass below 0
