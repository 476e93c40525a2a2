"""Detectors that compare a row with the fit rows nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from latentood.detectors.banks import BankDetector, bank_state
from latentood.detectors.base import State
from latentood.detectors.checks import require_neighbours, too_many_neighbours
from latentood.detectors.statistics.bank import Bank, own_copies
from latentood.latents import Latents
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import unit_rows
from latentood.stats.neighbours.engines import Engine, Index, engine_in_use
from latentood.stats.neighbours.search import EFFORT, Neighbours


@dataclass(frozen=True)
class ReadyBank:
    """A bank with its index."""

    search: Neighbours
    state: State  # what was fitted


@plugin
class KNN(BankDetector):
    """Distance to the k-th nearest fit row, of features scaled to length 1.

    ``‖ĥ − ĥ_(k)‖`` with ĥ = h/(‖h‖+ε); Sun et al. 2022. K is 50 there for CIFAR-10, 200 for
    CIFAR-100, 1000 for ImageNet. A row is not its own neighbour, nor is a
    copy of it in the bank.
    """

    name = "knn"
    family = "neighbours"
    paper = "arXiv:2204.06507, sec. 3"
    works = "Features of any shape, one class or many; strongest with contrastive training."
    fails = "Small or mislabelled banks, and near OOD whose features fall inside ID clusters."
    cost = "O(M·D) fit, O(M·D) per row, for a bank of M rows"
    cannot_fit_on = ("one row", "few rows")
    k: int = hyper(
        50,
        "which neighbour: 50 for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet",
        low=1,
        tries=(1, 5, 10, 20, 50, 100, 200),
    )
    metric: Literal["euclidean", "squared_euclidean"] = hyper("euclidean", "distance")
    normalise: bool = hyper(True, "whether features are scaled to length 1 first")
    engine: Engine = hyper("auto", "search engine; the scores are the same")
    index: Index = hyper("flat", "flat is exact; ivf and hnsw may miss neighbours: see recall")
    effort: int = hyper(
        EFFORT, "lists that ivf visits, candidates that hnsw follows; more misses less", low=1
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and where its rows come from."""
        bank = train.compute(Bank(self.key, self.share, self.seed))
        if self.k > len(bank.rows):
            remedy = f'extract more of "{train.name}"'
            raise too_many_neighbours(self.name, self.k, len(bank.rows), remedy)
        return bank_state(bank)

    def prepare(self, state: State) -> ReadyBank:
        """Build the index, or take one built for another k: one serves every k of a sweep."""
        vectors = unit_rows if self.normalise else Tensor.double
        search = Neighbours.over(
            state["bank"], vectors=vectors, engine=self.engine, index=self.index, effort=self.effort
        )
        search.asked.add(self.k)
        return ReadyBank(search, state)

    def measure(self, state: State, ready: Callable[[], ReadyBank]) -> dict[str, Any]:
        """Report the engine, and which share of the k nearest rows an approximate index finds."""
        engine = engine_in_use(
            self.engine, state["bank"].device, self.index, lambda: ready().search
        )
        if self.index == "flat":
            return {"engine": engine}
        return {"engine": engine, "recall": ready().search.recall(self.k, seed=self.seed)}

    def score(self, state: ReadyBank, rows: Latents) -> Tensor:
        """Measure the distance to the k-th neighbour: (N,) ≥ 0."""
        own = own_copies(state.state, rows)
        others = require_neighbours(self.name, self.k, len(state.search), own)
        ks = tuple(sorted(k for k in state.search.asked | {self.k} if k <= others))
        distance = rows.once(
            (state.search, self.key, ks),
            lambda: state.search.kth_distances(rows[self.key], ks, own),
        )[self.k]
        return distance if self.metric == "euclidean" else distance.square()
