"""Detectors that compare a row with the fit rows nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from latentood.detectors.base import FeatureDetector, Needs, State, hyper
from latentood.detectors.statistics import Bank, own_positions
from latentood.errors import DetectorError
from latentood.latents import Latents, Statistic
from latentood.stats.linalg import lengths
from latentood.stats.neighbours import EFFORT, ENGINES, INDEXES, Neighbours, possible_engines

EPSILON = 1e-10
"""Added to a norm before dividing by it, so that a row of zeros stays one."""


def unit_rows(rows: Tensor) -> Tensor:
    """Scale rows to length 1: x/(‖x‖+ε), (N, D) → (N, D) float64."""
    rows = rows.double()
    return rows / (lengths(rows).unsqueeze(1) + EPSILON)


@dataclass(frozen=True)
class ReadyBank:
    """A bank with its index.

    Attributes:
        search: The index.
        positions: (M,) of the bank in the fit split.
        origin: (32,) digest of the fit split.
    """

    search: Neighbours
    positions: Tensor  # (M,)
    origin: Tensor  # (32,)


class Searching(Protocol):
    """What is ready to search a bank."""

    @property
    def search(self) -> Neighbours:
        """Give its index."""


def engine_of(option: str, index: str, state: State, ready: Callable[[], Searching]) -> str:
    """Name the engine that searches a bank; only where several may, they must be tried."""
    possible = possible_engines(option, state["bank"].device, index)
    return possible[0] if len(possible) == 1 else ready().search.engine


@dataclass(frozen=True)
class KNN(FeatureDetector):
    """Distance to the k-th nearest fit row, of features scaled to length 1.

    ``‖ĥ − ĥ_(k)‖`` with ĥ = h/(‖h‖+ε); Sun et al. 2022. K is 50 there for CIFAR-10, 200 for
    CIFAR-100, 1000 for ImageNet. A row of the bank is not its own neighbour.
    """

    name = "knn"
    family = "neighbours"
    paper = "arXiv:2204.06507, sec. 3"
    works = "Features of any shape, one class or many; strongest with contrastive training."
    fails = "Small or mislabelled banks, and near OOD whose features fall inside ID clusters."
    cost = "O(M·D) fit, O(M·D) per row, for a bank of M rows"
    reads_bank = True
    k: int = hyper(
        50, "which neighbour: 50 for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet", low=1
    )
    metric: str = hyper("euclidean", "distance", choices=("euclidean", "squared_euclidean"))
    normalise: bool = hyper(True, "whether features are scaled to length 1 first")
    share: float = hyper(1.0, "share of the fit rows kept as the bank", above=0, high=1)
    seed: int = hyper(0, "which rows a share keeps", low=0)
    engine: str = hyper("auto", "search engine; the scores are the same", choices=ENGINES)
    index: str = hyper(
        "flat", "flat is exact; ivf and hnsw may miss neighbours: see recall", choices=INDEXES
    )
    effort: int = hyper(
        EFFORT,
        "lists that ivf visits, candidates that hnsw follows; more misses less",
        low=1,
    )

    def needs(self) -> Needs:
        """Declare features."""
        return Needs(score=(self.key,), fit=(self.key,))

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the bank."""
        return (Bank(self.key, self.share, self.seed),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and where its rows come from."""
        bank = train.compute(Bank(self.key, self.share, self.seed))
        if self.k > len(bank.rows):
            raise self._too_many(len(bank.rows), f'extract more of "{train.name}"')
        return {"bank": bank.rows, "positions": bank.positions, "origin": bank.origin}

    def prepare(self, state: State) -> ReadyBank:
        """Build the index, or take that of a sibling: one serves every k of a sweep."""
        vectors = unit_rows if self.normalise else Tensor.double
        search = Neighbours.over(
            state["bank"],
            vectors=vectors,
            engine=self.engine,
            index=self.index,
            effort=self.effort,
        )
        search.asked.add(self.k)
        return ReadyBank(search, state["positions"], state["origin"])

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Tell the size of the bank and the engine that searches it."""
        return {"bank": len(state["bank"])}

    def measure(self, state: State, ready: Callable[[], ReadyBank]) -> dict[str, Any]:
        """Tell the engine, and which share of the k nearest rows an approximate index finds."""
        engine = engine_of(self.engine, self.index, state, ready)
        if self.index == "flat":
            return {"engine": engine}
        return {"engine": engine, "recall": ready().search.recall(self.k, seed=self.seed)}

    def score(self, state: ReadyBank, rows: Latents) -> Tensor:
        """Measure the distance to the k-th neighbour: (N,) ≥ 0."""
        own = own_positions(state.positions, state.origin, rows)
        others = len(state.search) - (own is not None and bool((own >= 0).any()))
        if self.k > others:
            raise self._too_many(others, "score rows other than the fit rows")
        ks = tuple(sorted(k for k in state.search.asked | {self.k} if k <= others))
        distance = rows.once(
            (state.search, self.key, ks),
            lambda: state.search.kth_distances(rows[self.key], ks, own),
        )[self.k]
        return distance if self.metric == "euclidean" else distance.square()

    def _too_many(self, rows: int, remedy: str) -> DetectorError:
        return DetectorError(
            f"{self.name}: k must be ≤ the bank's {rows} rows, got {self.k}; lower k or {remedy}"
        )
