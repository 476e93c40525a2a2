"""Engines that propose nearest rows in float32: FAISS where it is installed, else torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from latentood.errors import MissingInput

ENGINES = ("auto", "faiss", "torch")
INDEXES = ("flat", "ivf", "hnsw")

_LINKS = 32  # of a row in hnsw
_CONSTRUCTION = 200  # candidates for the links of a row of hnsw
_PER_LIST = 39  # rows that FAISS wants at least to place a list of ivf
_CHUNK = 8192  # rows per matrix product: 64 MiB of float32 distances


class Searcher(Protocol):
    """Rows that can be searched."""

    def add(self, vectors: Tensor) -> None:
        """Take in rows (n, D) float32."""

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Propose rows: squared distances (N, count), ascending, and positions.

        Where there are not so many, distances are infinite and positions −1.
        """


def choose_engine(option: str, device: torch.device, index: str = "flat") -> str:
    """Say which engine will run: FAISS on the CPU where it is installed, else torch.

    Raises:
        MissingInput: FAISS is needed and not installed, or ruled out.
    """
    exact = index == "flat"
    if exact and (option == "torch" or (option == "auto" and device.type != "cpu")):
        return "torch"
    if not exact and option == "torch":
        raise MissingInput(
            f"neighbours: engine must be 'auto' or 'faiss' for an index of kind {index!r}, got "
            "'torch'; choose index=flat, which is exact"
        )
    if faiss_module() is not None:
        return "faiss"
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
    return "torch"


def make_searcher(
    engine: str,
    index: str,
    effort: int,
    *,
    shape: tuple[int, int],
    device: torch.device,
    sample: Callable[[], Tensor],
) -> Searcher:
    """Build an empty index.

    Args:
        engine: ``faiss`` or ``torch``.
        index: One of ``INDEXES``.
        effort: How much an approximate index looks at.
        shape: (M, D) of all rows that will be added.
        device: Where they live.
        sample: Gives rows (n, D) float32 like them.
    """
    if engine == "torch":
        return _Torch(shape, device)
    if index == "flat":
        return _Flat(shape)
    if index == "ivf":
        return _Faiss(_ivf(faiss_module(), shape[1], effort, sample().cpu().numpy()))
    return _Hnsw(shape[1], effort)


def faiss_module() -> Any:
    """Import FAISS, after torch: the two bring their own OpenMP and must load in this order."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def _ivf(faiss: Any, width: int, effort: int, sample: Any) -> Any:
    """Place the lists of an inverted file: about 4·√n, each from enough rows."""
    lists = max(1, min(int(4 * len(sample) ** 0.5), len(sample) // _PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, lists)
    index.cp.seed = 0
    index.train(sample)
    index.nprobe = min(effort, lists)
    return index


class _Faiss:
    """Search by FAISS."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def add(self, vectors: Tensor) -> None:
        self._index.add(vectors.cpu().numpy())

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        found = self._index.search(queries.cpu().numpy(), count)
        return _proposed(found, queries.device)


def _proposed(found: tuple[Any, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Give what FAISS found as tensors: distances, infinite where it found none, and positions."""
    near, index = (torch.from_numpy(array).to(device) for array in found)
    return near.masked_fill_(index < 0, torch.inf), index


class _Hnsw(_Faiss):
    """A graph of near rows, linked by one thread: with several it differs from run to run."""

    def __init__(self, width: int, effort: int) -> None:
        super().__init__(faiss_module().IndexHNSWFlat(width, _LINKS))
        self._index.hnsw.efConstruction = _CONSTRUCTION
        self._effort = effort

    def add(self, vectors: Tensor) -> None:
        with _one_thread():
            super().add(vectors)

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        self._index.hnsw.efSearch = max(self._effort, count)
        return super().search(queries, count)


@contextmanager
def _one_thread() -> Iterator[None]:
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class _Filled:
    """All rows in one array, which an index that grows would copy again and again."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self._vectors = torch.empty(shape, dtype=torch.float32, device=device)
        self._count = 0

    def add(self, vectors: Tensor) -> None:
        self._vectors[self._count : self._count + len(vectors)] = vectors
        self._count += len(vectors)


class _Flat(_Filled):
    """Exhaustive search by FAISS."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__(shape, torch.device("cpu"))

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        found = faiss_module().knn(queries.cpu().numpy(), self._vectors.numpy(), count)
        return _proposed(found, queries.device)


class _Torch(_Filled):
    """Exhaustive search by matrix products, merging the best of every chunk of the bank."""

    @cached_property
    def _chunks(self) -> list[tuple[Tensor, Tensor]]:
        return [(part, part.square().sum(dim=1)) for part in self._vectors.split(_CHUNK)]

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
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
