"""Products of many rows with themselves, in float64: the larger half of most fits.

Such a product is symmetric, and NumPy's BLAS computes half of it, for which torch has no call.
But the threads of each library wait by spinning, on the cores that those of the other need,
and together they take several times as long. So BLAS is held to one thread here, and threads of
this module compute a tile of the result each: the same bits on any number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Tile = tuple[slice, slice, NDArray[np.float64]]
EachCore = Callable[[Callable[[Item], Result], Iterable[Item]], list[Result]]

_ROWS = 4096  # turned to float64 at a time, so that memory does not grow with the rows
_PART = 512  # rows that one thread centres at a time
_TILE = 256  # columns; narrower ones cost BLAS its speed

_alone = Lock()  # how many threads BLAS may use is one number for the whole process


class SelfProduct:
    """A running sum of ``(rows − origin)ᵀ·(rows − origin)``, (D, D) for rows of width D."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._sum = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._on_cpu = device.type == "cpu"  # then only the upper triangle is computed
        step = max(min(_TILE, -(-width // 2)), -(-width // 4))  # at least 3 tiles, at most 10
        bands = [slice(start, min(start + step, width)) for start in range(0, width, step)]
        tiles = [(i, j) for i in bands for j in bands if i.start <= j.start]
        tiles.sort(key=lambda tile: tile[0] is tile[1])  # those cost half: last
        # Made once: what threads of their own allocate and give back may stay with the process.
        self._tiles = [(i, j, np.empty((i.stop - i.start, j.stop - j.start))) for i, j in tiles]
        self._buffer = np.empty((0, width))

    def add(self, rows: Tensor, origin: Tensor | None = None) -> None:
        """Add rows (n, D) of any float dtype, measured from an origin (D,) float64; default 0."""
        if self._on_cpu:
            zero = np.zeros(rows.shape[1]) if origin is None else origin.numpy()
            with _each_core() as run:
                self._add_rows(rows, zero, run)
        else:
            centred = rows.double() if origin is None else rows - origin
            self._sum.addmm_(centred.mT, centred)

    def add_about_mean(self, chunks: Sequence[Tensor]) -> Tensor:
        """Add chunks of rows (n, D), measured from their common mean; give it, (D,) float64."""
        if not self._on_cpu:
            rows = torch.cat(tuple(chunks))
            mean = rows.mean(dim=0, dtype=torch.float64)
            self.add(rows, mean)
            return mean
        with _each_core() as run:
            parts = [_array(part) for chunk in chunks for part in chunk.split(_PART)]
            centre = np.sum(run(_column_sums, parts), axis=0) / sum(map(len, parts))
            for chunk in chunks:
                self._add_rows(chunk, centre, run)
        return torch.from_numpy(centre)

    def total(self) -> Tensor:
        """Give the sum so far: (D, D) float64, on the CPU exactly symmetric."""
        return self._sum.triu() + self._sum.triu(1).mT if self._on_cpu else self._sum.clone()

    def _add_rows(self, rows: Tensor, origin: NDArray[Any], run: EachCore[Any, Any]) -> None:
        for part in rows.split(_ROWS):
            self._add_part(_array(part), origin, run)

    def _add_part(self, rows: NDArray[Any], origin: NDArray[Any], run: EachCore[Any, Any]) -> None:
        if len(self._buffer) < len(rows):
            self._buffer = np.empty(rows.shape)
        centred, upper = self._buffer[: len(rows)], self._sum.numpy()

        def centre(start: int) -> None:
            part = slice(start, start + _PART)
            np.subtract(rows[part], origin, out=centred[part])

        def multiply(tile: Tile) -> None:
            i, j, product = tile
            left = centred[:, i]  # multiplied by the same array, it costs half
            right = left if i is j else centred[:, j]
            np.matmul(left.T, right, out=product)
            upper[i, j] += product

        run(centre, range(0, len(rows), _PART))
        run(multiply, self._tiles)


def self_product(rows: Tensor) -> Tensor:
    """Give ``rowsᵀ·rows`` of rows (N, D) of any float dtype: (D, D) float64."""
    product = SelfProduct(rows.shape[1], rows.device)
    product.add(rows)
    return product.total()


def add_self_products(sums: Tensor, rows_of_each: Sequence[Tensor]) -> None:
    """Add ``rowsᵀ·rows`` of each of K sets of rows (n, D) float64, n ≥ 0, to its sum, in place.

    The sums are (K, D, D) float64.
    """
    pairs = [(total, rows) for total, rows in zip(sums, rows_of_each, strict=True) if len(rows)]
    if sums.device.type != "cpu":
        for total, rows in pairs:
            total.addmm_(rows.mT, rows)
        return

    def add(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
        total, values = pair
        total += values.T @ values

    with _each_core() as run:
        run(add, [(total.numpy(), rows.numpy()) for total, rows in pairs])


def _column_sums(rows: NDArray[Any]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = rows.sum(axis=0, dtype=np.float64)
    return sums


def _array(rows: Tensor) -> NDArray[Any]:
    """See rows as an array; NumPy has no bfloat16."""
    return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()


@contextmanager
def _each_core() -> Iterator[EachCore[Any, Any]]:
    """Give a function that calls another for every item, on as many threads as torch uses."""
    with _alone, _blas().limit(limits=1), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield lambda work, items: list(pool.map(work, items))


@cache
def _blas() -> ThreadpoolController:
    """Look once for the libraries that have threads."""
    return ThreadpoolController().select(user_api="blas")
