"""Detectors that estimate a density at a row from the fit rows themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.banks import BankDetector, bank_state
from latentood.detectors.base import State
from latentood.detectors.checks import require_neighbours
from latentood.detectors.statistics.bank import Bank, own_copies
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.kernel import KernelDensity
from latentood.stats.linalg import unit_rows
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.engines import Engine, engine_in_use
from latentood.stats.neighbours.search import Neighbours

FLOOR = 1e-10
"""Share of the mean distance to the k-th neighbour added to every mean reachability."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadyDensity:
    """A kernel density with the state that its bank comes from."""

    density: KernelDensity
    state: State


@plugin
class KDE(BankDetector):
    """Kernel density of the features of the fit rows, negated: −log p(h).

    ``p(h) = mean_i N(h; h_i, b²·I)`` (Parzen 1962), a Gaussian kernel on every fit row, all pairs
    summed exactly. A row of the bank does not count towards its own density. The bandwidth is by
    default Scott's rule, σ·n^(−1/(D+4)) with σ² the mean variance of a dimension; scikit-learn's
    rule of that name leaves σ out, and its tree is far off above 64 dimensions.
    """

    name = "kde"
    family = "density"
    paper = "textbook (Parzen 1962; bandwidth: Scott 1992, eq. 6.42)"
    works = "ID features of any shape, with no labels and few assumptions; narrow layers best."
    fails = "Wide layers: with one bandwidth for all, the nearest row decides, as in knn with k=1."
    cost = "O(M·D) fit, O(M·D) per row, for a bank of M rows"
    cannot_fit_on = ("one row",)
    bandwidth: float = hyper(
        0.0, "standard deviation of the kernel in units of the features; 0 = Scott's rule", low=0
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, where its rows come from, and the bandwidth."""
        bank = train.compute(Bank(self.key, self.share, self.seed))
        if len(bank.rows) < 2:  # leaving out a row itself must leave something
            raise DetectorError(
                f"{self.name}: a density must have ≥ 2 rows in its bank, got {len(bank.rows)}; "
                f'raise share or extract more of "{train.name}"'
            )
        bandwidth = self.bandwidth or self._scott(bank.rows, train)
        return {**bank_state(bank), "bandwidth": torch.tensor(bandwidth, dtype=torch.float64)}

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Turn rows (N, D) as stored into those whose density is taken (N, D')."""
        return rows

    def prepare(self, state: State) -> ReadyDensity:
        """Place the kernels."""
        bank = self.vectors(state, state["bank"])
        return ReadyDensity(KernelDensity(bank, float(state["bandwidth"])), state)

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the size of the bank and the bandwidth."""
        return {"bank": len(state["bank"]), "bandwidth": float(state["bandwidth"])}

    def score(self, state: ReadyDensity, rows: Latents) -> Tensor:
        """Negate the log density: (N,) nats."""
        own = own_copies(state.state, rows)
        return -state.density.log_density(self.vectors(state.state, rows[self.key]), own)

    def _scott(self, bank: Tensor, train: Latents) -> float:
        count, width = bank.shape
        sigma = float(bank.double().var(dim=0, correction=0).mean().sqrt())
        if sigma == 0:
            raise DetectorError(
                f"{self.name}: {self.key} must vary between the rows for Scott's rule to give a "
                f'bandwidth, got {count} rows of "{train.name}" without spread; set bandwidth or '
                "choose another layer"
            )
        return sigma * float(count ** (-1 / (width + 4)))


@dataclass(frozen=True)
class ReadyFactor:
    """The bank of a local outlier factor with its index."""

    search: Neighbours
    state: State


@plugin
class LOF(BankDetector):
    """Local outlier factor: how much thinner the fit rows lie around a row than around them.

    ``mean_{o∈N_k(h)} lrd(o) / lrd(h)`` with lrd the reciprocal of the mean reachability
    ``max(‖h−o‖, k-distance(o))``; Breunig et al. 2000. A row of the bank is not its own neighbour.
    As in scikit-learn, N_k has exactly k rows (the paper takes all at the k-distance), and a floor
    keeps lrd finite among duplicates: here a share of the mean k-distance, there 1e-10.
    """

    name = "lof"
    family = "density"
    paper = "10.1145/342009.335388, definitions 5-7"
    works = "ID clusters of different density: a row is judged by its own neighbourhood."
    fails = "Duplicates in the bank, and far OOD beyond sparse ID rows, whose factor stays modest."
    cost = "O(M²·D) fit, O(M·D) per row, for a bank of M rows"
    cannot_fit_on = ("one row", "few rows")
    k: int = hyper(
        20,
        "neighbours that make a neighbourhood; the paper: 10 to 50",
        low=1,
        tries=(5, 10, 20, 50, 100),
    )
    normalise: bool = hyper(False, "whether features are scaled to length 1 first")
    engine: Engine = hyper("auto", "search engine; the scores are the same")

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D), its k-distances (M,) and densities lrd (M,), and the floor."""
        bank = train.compute(Bank(self.key, self.share, self.seed))
        count = len(bank.rows)
        if self.k >= count:
            raise DetectorError(
                f"{self.name}: k must be < the bank's {count} rows, got {self.k}; lower k or "
                f'extract more of "{train.name}"'
            )
        own = Copies.of(bank.positions, bank.positions)
        near, index = self._search(bank.rows).nearest(bank.rows, self.k, own)
        reach = near[:, -1].contiguous()
        self._check_duplicates(reach, train)
        floor = FLOOR * reach.mean()
        density = _density(near, index, reach, floor)
        return bank_state(bank) | {"reach": reach, "density": density, "floor": floor}

    def prepare(self, state: State) -> ReadyFactor:
        """Build the index."""
        return ReadyFactor(self._search(state["bank"]), state)

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the size of the bank and its duplicates."""
        duplicates = int((state["reach"] == 0).sum())
        return {"bank": len(state["bank"]), "rows_with_k_duplicates": duplicates}

    def measure(self, state: State, ready: Callable[[], ReadyFactor]) -> dict[str, Any]:
        """Report the engine that searches the bank."""
        return {
            "engine": engine_in_use(
                self.engine, state["bank"].device, "flat", lambda: ready().search
            )
        }

    def score(self, state: ReadyFactor, rows: Latents) -> Tensor:
        """Compare densities: (N,) > 0, about 1 inside a cluster."""
        kept = state.state
        own = own_copies(kept, rows)
        require_neighbours(self.name, self.k, len(kept["bank"]), own)
        near, index = state.search.nearest(rows[self.key], self.k, own)
        density = _density(near, index, kept["reach"], kept["floor"])
        return kept["density"][index].mean(dim=1) / density

    def _search(self, bank: Tensor) -> Neighbours:
        vectors = unit_rows if self.normalise else Tensor.double
        return Neighbours(bank, vectors=vectors, engine=self.engine)

    def _check_duplicates(self, reach: Tensor, train: Latents) -> None:
        alike = int((reach == 0).sum())
        if alike == len(reach):
            raise DetectorError(
                f"{self.name}: {self.key} must have rows with fewer than {self.k} duplicates, got "
                f'{alike} rows of "{train.name}" that all have as many; raise k or remove the '
                "duplicates"
            )
        if alike:
            log.warning(
                "%s: %d of %d bank rows of %r have %d duplicates, so their density is as high as "
                "the floor lets it be, and rows beside them score far too high: raise k or remove "
                "the duplicates",
                self.name, alike, len(reach), train.name, self.k,
            )  # fmt: skip


def _density(near: Tensor, index: Tensor, reach: Tensor, floor: Tensor) -> Tensor:
    """Local reachability density (N,) > 0 of rows, from their nearest rows in the bank.

    ``near`` and ``index`` are (N, k); ``reach`` (M,) is the distance of every bank row to its k-th
    neighbour; ``floor`` is added to the mean reachability.
    """
    return (torch.maximum(near, reach[index]).mean(dim=1) + floor).reciprocal()
