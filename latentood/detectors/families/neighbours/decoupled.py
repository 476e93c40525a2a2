"""Nearest neighbours in the principal subspace of features and in what it leaves over, apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.banks import BankDetector, bank_state
from latentood.detectors.base import State
from latentood.detectors.checks import no_spread, require_neighbours, too_many_neighbours
from latentood.detectors.statistics import Bank, UnitMoments
from latentood.detectors.statistics.bank import drawn, own_copies
from latentood.latents import Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import unit_rows
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.search import Neighbours


@dataclass(frozen=True)
class Subspaces:
    """The split of unit rows about their mean."""

    mean: Tensor  # (D,) float64
    axes: Tensor  # (D, dim) float64, orthonormal

    def principal(self, rows: Tensor) -> Tensor:
        """Give unit rows (N, D) with what lies outside the principal subspace taken out."""
        return unit_rows(self._within(unit_rows(rows)) + self.mean)

    def residual(self, rows: Tensor) -> Tensor:
        """Give unit rows (N, D) with what lies within the principal subspace taken out."""
        unit = unit_rows(rows)
        return unit_rows(unit - self._within(unit))

    def _within(self, unit: Tensor) -> Tensor:
        return (unit - self.mean) @ self.axes @ self.axes.mT


@dataclass(frozen=True)
class ReadySubspaces:
    """A bank with an index for each subspace."""

    searches: tuple[Neighbours, Neighbours]
    state: State  # what was fitted

    def distances(self, rows: Tensor, k: int, own: Copies | None) -> Tensor:
        """Distances of rows (N, D) to the k-th neighbour in either subspace: (N, 2)."""
        found = [search.kth_distance(rows, k, own) for search in self.searches]
        return torch.stack(found, dim=1)


@plugin
class DKNN(BankDetector):
    """Distance to the k-th nearest fit row, in the principal subspace and beside it (D-KNN).

    ``α·s(d_P) + (1−α)·s(d_R)`` with s(d) = (d − mean)/deviation, so that the weak residual counts
    as much as the principal part; Peng et al. 2026. Features are scaled to length 1. About their
    mean μ over the fit rows they fall into a part P in the principal subspace and the rest R; d is
    the distance between P + μ, or R + μ, both scaled to length 1 again. Mean and deviation are
    those of fit rows, each against the others. A row is not its own neighbour, nor is a copy of it.

    The equations could not be read. Followed are the abstract (orthogonal decomposition,
    calibration in both spaces), a review, and how a public implementation by others reads the
    paper, with its defaults k = 50, 95% of the variance and α = ½. The calibration takes a sample
    of the fit rows here, as all of them against all take time N².
    """

    name = "dknn"
    family = "neighbours"
    paper = "arXiv:2602.05360, abstract"
    works = "Collapsed features: noise and textures show beside the few directions of the classes."
    fails = "Features of full rank, where both parts tell what knn tells, and small banks."
    cost = "O(M·D + N·D² + D³) fit, O(M·D + D·dim) per row, for a bank of M rows"
    cannot_fit_on = ("one row", "few rows")
    k: int = hyper(50, "which neighbour", low=1, tries=(1, 5, 10, 20, 50, 100, 200))
    variance: float = hyper(
        0.95, "share of the variance that the principal subspace keeps", above=0, below=1
    )
    alpha: float = hyper(
        0.5, "α, weight of the principal subspace", low=0, high=1, tries=(0.25, 0.5, 0.75)
    )
    calibration: int = hyper(1000, "fit rows that means and deviations are taken over", low=2)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the bank, and for mean and scatter of unit rows."""
        return (Bank(self.key, self.share, self.seed), UnitMoments(self.key))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D), μ (D,), the principal axes (D, dim), and mean and spread (2, 2)."""
        bank = train.compute(Bank(self.key, self.share, self.seed))
        if self.k >= len(bank.rows):
            remedy = f'extract more of "{train.name}"'
            raise too_many_neighbours(self.name, self.k + 1, len(bank.rows), remedy)
        moments = train.compute(UnitMoments(self.key))
        values, vectors = moments.covariance.spectrum
        dim = int((values.cumsum(dim=0) < self.variance * values.sum()).sum()) + 1
        axes = vectors[:, : min(dim, len(values) - 1)].contiguous()
        state = bank_state(bank) | {"mean": moments.mean, "axes": axes}
        return state | {"moments": self._calibrated(state, train)}

    def prepare(self, state: State) -> ReadySubspaces:
        """Build both indices."""
        split = Subspaces(state["mean"], state["axes"])
        searches = tuple(
            Neighbours(state["bank"], vectors=part) for part in (split.principal, split.residual)
        )
        return ReadySubspaces(searches, state)  # type: ignore[arg-type]

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the size of the bank and the width of the principal subspace."""
        width, dim = state["axes"].shape
        return super().diagnostics(state) | {"dim": dim, "width": width}

    def score(self, state: ReadySubspaces, rows: Latents) -> Tensor:
        """Weigh the standardised distances: (N,)."""
        own = own_copies(state.state, rows)
        require_neighbours(self.name, self.k, len(state.state["bank"]), own)
        mean, spread = state.state["moments"]
        standardised = (state.distances(rows[self.key], self.k, own) - mean) / spread
        scores: Tensor = standardised @ standardised.new_tensor([self.alpha, 1 - self.alpha])
        return scores

    def _calibrated(self, state: State, train: Latents) -> Tensor:
        """Mean and standard deviation (2, 2) of distances of a sample of the bank to the others."""
        size = len(state["bank"])
        sample = drawn(size, min(1.0, self.calibration / size), self.seed).to(state["bank"].device)
        marks = state.get("hashes", state["positions"])
        own = Copies.of(marks, marks[sample])
        require_neighbours(self.name, self.k, size, own)
        distances = self.prepare(state).distances(state["bank"][sample], self.k, own)
        spread, mean = torch.std_mean(distances, dim=0, correction=0)
        if bool((spread <= 1e-12).any()):
            raise no_spread(f"{self.name}: distances between {self.key}", len(sample), train)
        return torch.stack([mean, spread])
