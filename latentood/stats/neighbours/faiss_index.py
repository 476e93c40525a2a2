"""Search by FAISS: all rows on the CPU or a GPU, or an approximate index on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

MOST_ON_GPU = 2048
"""Neighbours that FAISS selects on a GPU."""

_LINKS = 32  # of a row in hnsw
_CONSTRUCTION = 200  # candidates for the links of a row of hnsw
_PER_LIST = 39  # rows that FAISS wants at least to place a list of ivf


def faiss_module() -> Any:
    """Import FAISS, after torch: the two bring their own OpenMP and must load in this order."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def runs_on(device: torch.device) -> bool:
    """Tell whether FAISS is there, was built for GPUs and sees this one."""
    faiss = faiss_module()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return False
    return (device.index or 0) < int(faiss.get_num_gpus())


def search_all(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Compare queries (N, D) with all vectors (M, D) on the CPU, both float32.

    Gives squared distances (N, count), ascending, and positions, on the device of the queries.
    """
    nearest = faiss_module().knn(queries.cpu().numpy(), vectors.numpy(), count)
    return _tensors(nearest, queries.device)


def search_all_on_gpu(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Do the same on a GPU that FAISS runs on, where all are; ``count`` ≤ MOST_ON_GPU."""
    device = vectors.device.index or 0
    nearest: tuple[Tensor, Tensor] = faiss_module().knn_gpu(
        _gpu_resources(), queries.contiguous(), vectors, count, device=device
    )
    return nearest


@cache
def _gpu_resources() -> Any:
    """Scratch memory of FAISS on GPUs, and its way to take tensors as they are."""
    import faiss.contrib.torch_utils

    return faiss.StandardGpuResources()


class Ivf:
    """An inverted file: the rows nearest to the ``effort`` centres nearest to a query.

    The centres are placed by a sample of rows (n, D) float32.
    """

    engine = "faiss"

    def __init__(self, width: int, effort: int, sample: Tensor) -> None:
        faiss = faiss_module()
        # About 4·√n lists, each placed from enough rows.
        lists = max(1, min(int(4 * len(sample) ** 0.5), len(sample) // _PER_LIST))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, lists)
        self._index.cp.seed = 0
        self._index.train(sample.cpu().numpy())
        self._index.nprobe = min(effort, lists)

    def add(self, vectors: Tensor) -> None:
        """Take in rows (n, D) float32."""
        self._index.add(vectors.cpu().numpy())

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Propose rows; infinitely far ones at position −1 where there are fewer."""
        return _tensors(self._index.search(queries.cpu().numpy(), count), queries.device)


class Hnsw:
    """A graph of near rows, in which a query follows ``effort`` candidates.

    One thread links it: with several it differs from run to run.
    """

    engine = "faiss"

    def __init__(self, width: int, effort: int) -> None:
        self._index = faiss_module().IndexHNSWFlat(width, _LINKS)
        self._index.hnsw.efConstruction = _CONSTRUCTION
        self._effort = effort

    def add(self, vectors: Tensor) -> None:
        """Take in rows (n, D) float32."""
        with _one_thread():
            self._index.add(vectors.cpu().numpy())

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Propose rows; infinitely far ones at position −1 where there are fewer."""
        self._index.hnsw.efSearch = max(self._effort, count)
        return _tensors(self._index.search(queries.cpu().numpy(), count), queries.device)


def _tensors(nearest: tuple[Any, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    near, index = (torch.from_numpy(array).to(device) for array in nearest)
    return near.masked_fill_(index < 0, torch.inf), index


@contextmanager
def _one_thread() -> Iterator[None]:
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
