"""Detectors that count the fit rows to which a row would be a neighbour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.banks import bank_state
from latentood.detectors.base import FeatureDetector, State
from latentood.detectors.statistics.bank import Sample, own_copies
from latentood.errors import DetectorError
from latentood.latents import Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import unit_rows
from latentood.stats.neighbours.copies import Copies

TIE = 1e-12
"""Squared distances between unit rows that differ by less are equal: rounding is below it."""

_ELEMENTS = 1 << 22  # distances per step: 32 MiB of float64


@dataclass(frozen=True)
class ReadyReference:
    """A reference sample with the neighbourhoods of its rows."""

    unit: Tensor  # (n, D) float64, rows of length 1
    radii: Tensor  # (n, n−1) float64, squared distances of each row to the others, ascending
    state: State  # what was fitted


@plugin
class CFOOD(FeatureDetector):
    """Smallest neighbourhood that makes a row a neighbour of enough fit rows.

    ``min k/n`` such that x is among the k nearest neighbours of at least ρ·n of the n reference
    rows: the concentration-free outlier factor of Angiulli 2020 against ID features scaled to
    length 1 (Angiulli, Fassetti, Zupi 2026, CF-OOD). x is among the k nearest neighbours of y if it
    is no farther than the k-th nearest other reference row. Every k is tried (the code of the
    authors tries a grid of 230). A reference row does not count itself.
    """

    name = "cfood"
    family = "neighbours"
    paper = "arXiv:1901.04992, def. 1; iris.unical.it/handle/20.500.11770/399817"
    works = "Wide features, where distances concentrate but ranks do not; small samples suffice."
    fails = "ρ·n of only a few rows, where the score has few different values and ties abound."
    cost = "O(n²·D) once, O(n·(D + log n)) per row, for n reference rows (memory 8·n² bytes)"
    reads_bank = True
    cannot_fit_on = ("one row",)
    rho: float = hyper(
        0.01,
        "share of reference rows that must count x among theirs",
        above=0,
        high=1,
        tries=(0.002, 0.005, 0.01, 0.02, 0.05),
    )
    reference: int = hyper(
        5000, "reference rows drawn: 10% of CIFAR's in the authors' code", low=2, high=16384
    )
    seed: int = hyper(0, "which rows are drawn", low=0)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the sample."""
        return (Sample(self.key, self.reference, self.seed),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the reference rows (n, D) as they are stored, and where they come from."""
        sample = train.compute(Sample(self.key, self.reference, self.seed))
        if len(sample.rows) < 2:
            raise DetectorError(
                f"{self.name}: a neighbourhood must have ≥ 2 reference rows, got "
                f'{len(sample.rows)} of "{train.name}"; extract more rows'
            )
        return bank_state(sample)

    def prepare(self, state: State) -> ReadyReference:
        """Sort the distances of every reference row to the others."""
        unit = unit_rows(state["bank"])
        squared = _squared(unit, unit).fill_diagonal_(torch.inf)
        return ReadyReference(unit, squared.sort(dim=1).values[:, :-1].contiguous(), state)

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the reference rows, and how many of them must count x among theirs."""
        return {"reference": len(state["bank"]), "needed": self._needed(len(state["bank"]))}

    def score(self, state: ReadyReference, rows: Latents) -> Tensor:
        """Find the smallest share: (N,) in (0, 1]."""
        own = own_copies(state.state, rows)
        unit = unit_rows(rows[self.key])
        step = max(1, _ELEMENTS // len(state.unit))
        starts = range(0, len(unit), step)
        return torch.cat(
            [self._share(state, unit[s : s + step], own and own[s : s + step]) for s in starts]
        )

    def _share(self, state: ReadyReference, unit: Tensor, own: Copies | None) -> Tensor:
        size = len(state.unit)
        squared = _squared(state.unit, unit)  # (n, N)
        rank = 1 + torch.searchsorted(state.radii, squared - TIE)
        if own is not None:  # its own neighbourhood counts it last, so that it is no help
            rank[own.among(slice(size)).mT] = size
        return rank.kthvalue(self._needed(size), dim=0).values.double() / size

    def _needed(self, size: int) -> int:
        """Reference rows that must count x among theirs; 1e-9 of a row is rounding."""
        return max(1, math.ceil(self.rho * size - 1e-9))


def _squared(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances of rows (n, D) and (N, D) → (n, N)."""
    squares = rows.square().sum(dim=1, keepdim=True) + others.square().sum(dim=1)
    return torch.addmm(squares, rows, others.mT, alpha=-2)
