"""Engines that propose nearest rows in float32: FAISS where it is installed, else torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from latentood.errors import MissingInput
from latentood.stats.neighbours.faiss_index import (
    MOST_ON_GPU,
    Hnsw,
    Ivf,
    faiss_module,
    runs_on,
    search_all,
    search_all_on_gpu,
)

Engine = Literal["auto", "faiss", "torch"]
Index = Literal["flat", "ivf", "hnsw"]

_CHUNK = 8192  # rows per matrix product: 64 MiB of float32 distances
_TRIAL = (2048, 50)  # queries and neighbours that engines are timed with

log = logging.getLogger(__name__)


class Engined(Protocol):
    """Rows that some engine searches."""

    @property
    def engine(self) -> str:
        """Name what searches them."""


class Searcher(Engined, Protocol):
    """Rows that can be searched."""

    def add(self, vectors: Tensor) -> None:
        """Take in rows (n, D) float32."""

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Propose rows: squared distances (N, count), ascending, and positions.

        Where there are not so many, distances are infinite and positions −1.
        """


def possible_engines(option: str, device: torch.device, index: str = "flat") -> tuple[str, ...]:
    """Say which engines may run; of several, the faster one will.

    On the CPU it is FAISS where it is installed, else torch. On a GPU it is torch, or FAISS where
    that was built for GPUs and is faster.

    Raises:
        MissingInput: FAISS is needed and not installed, or ruled out.
    """
    exact = index == "flat"
    if exact and option == "torch":
        return ("torch",)
    if exact and option == "auto" and device.type != "cpu":
        return ("torch", "faiss") if runs_on(device) else ("torch",)
    if not exact and option == "torch":
        raise MissingInput(
            f"neighbours: engine must be 'auto' or 'faiss' for an index of kind {index!r}, got "
            "'torch'; choose index=flat, which is exact"
        )
    if faiss_module() is not None:
        return ("faiss",)
    if not exact:
        raise MissingInput(
            f"neighbours: index must be 'flat' where FAISS is not installed, got {index!r}; run "
            'pip install "latentood[cpu]" or choose index=flat'
        )
    if option == "faiss":
        raise MissingInput(
            "neighbours: engine must be 'auto' or 'torch' where FAISS is not installed, got "
            "'faiss'; run pip install \"latentood[cpu]\" or choose engine=torch"
        )
    return ("torch",)


def engine_in_use(
    option: str, device: torch.device, index: str, bank: Callable[[], Engined]
) -> str:
    """Name the engine that searches a bank; only where several may, they must be tried.

    ``bank`` then gives the rows as they are searched, for which an index may have to be built.
    """
    possible = possible_engines(option, device, index)
    return possible[0] if len(possible) == 1 else bank().engine


def make_searcher(
    engines: tuple[str, ...],
    index: str,
    effort: int,
    *,
    shape: tuple[int, int],
    device: torch.device,
    sample: Callable[[], Tensor],
) -> Searcher:
    """Build an empty index for rows of ``shape`` (M, D) on a device.

    ``engines`` is what :func:`possible_engines` gave; ``effort`` is how many lists or candidates an
    approximate index visits; ``sample`` gives rows (n, D) float32 like those to be added.
    """
    if index == "ivf":
        return Ivf(shape[1], effort, sample())
    if index == "hnsw":
        return Hnsw(shape[1], effort)
    here = "torch" in engines or runs_on(device)
    return Flat(engines, shape, device if here else torch.device("cpu"))


class Flat:
    """All M rows of width D in one array, which an index that grows would copy again and again."""

    def __init__(
        self, engines: tuple[str, ...], shape: tuple[int, int], device: torch.device
    ) -> None:
        self._engines = engines
        self._on_gpu = device.type == "cuda"
        self._vectors = torch.empty(shape, dtype=torch.float32, device=device)
        self._count = 0

    def add(self, vectors: Tensor) -> None:
        """Take in rows (n, D) float32."""
        self._vectors[self._count : self._count + len(vectors)] = vectors
        self._count += len(vectors)

    @cached_property
    def engine(self) -> str:
        """Name the engine: of several, the one that is faster with these rows."""
        if len(self._engines) == 1:
            return self._engines[0]
        queries, count = self._vectors[: _TRIAL[0]], min(_TRIAL[1], len(self._vectors))
        seconds = {name: self._seconds(name, queries, count) for name in self._engines}
        log.info("neighbours: %s", ", ".join(f"{name} {s:.4f} s" for name, s in seconds.items()))
        return min(seconds, key=seconds.__getitem__)

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Compare queries (N, D) with all rows."""
        return self._by(self.engine, queries, count)

    def _by(self, engine: str, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if engine == "torch" or (self._on_gpu and count > MOST_ON_GPU):
            return self._by_products(queries, count)
        by_faiss = search_all_on_gpu if self._on_gpu else search_all
        return by_faiss(self._vectors, queries, count)

    def _seconds(self, engine: str, queries: Tensor, count: int) -> float:
        """Time an engine the second time: the first, libraries and memory are prepared."""
        for _ in range(2):
            start = time.perf_counter()
            self._by(engine, queries, count)[0].cpu()  # waits for a GPU
            taken = time.perf_counter() - start
        return taken

    @cached_property
    def _chunks(self) -> list[tuple[Tensor, Tensor]]:
        return [(part, part.square().sum(dim=1)) for part in self._vectors.split(_CHUNK)]

    def _by_products(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Search by matrix products, merging the best of every chunk of the rows."""
        best = queries.new_empty((len(queries), 0))
        index = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
        start = 0
        for vectors, squares in self._chunks:
            relative = torch.addmm(squares, queries, vectors.mT, alpha=-2)
            near, place = relative.topk(min(count, len(vectors)), dim=1, largest=False)
            best, order = torch.cat([best, near], dim=1).sort(dim=1)
            index = torch.cat([index, place + start], dim=1).gather(1, order)
            best, index = best[:, :count], index[:, :count]
            start += len(vectors)
        return best + queries.square().sum(dim=1, keepdim=True), index
