"""Exact nearest neighbours: one interface, two engines, the same answers.

An engine (FAISS where it is installed, else torch) proposes candidates in float32. Distances
close enough to the k-th for float32 to have misordered them are then computed again from the
rows in float64, so the answer is that of a float64 search over all rows, whichever engine ran.
Rows where the candidates cannot prove their answer are searched in float64 outright.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from latentood.errors import MissingInput
from latentood.stats.linalg import lengths

ENGINES = ("auto", "faiss", "torch")

_QUERIES = 2048  # rows searched together
_CHUNK = 8192  # bank rows per matrix product: 64 MiB of float32 distances
_MARGIN = 16  # candidates beyond the k-th
_ROUNDING = torch.finfo(torch.float32).eps
_UNDERFLOW = torch.finfo(torch.float32).tiny  # products below it lose digits, or all of them
_UNDERFLOW = torch.finfo(torch.float32).tiny  # squares below it lose digits, or all of them

log = logging.getLogger(__name__)


class _Searcher(Protocol):
    def add(self, vectors: Tensor) -> None: ...
    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]: ...


class Neighbours:
    """The rows of a bank, ready to be searched by euclidean distance.

    Memory: the bank as given plus its float32 vectors; a search adds about 200 MiB at most.

    Args:
        bank: (M, D), any float dtype; kept, not copied.
        vectors: Turns rows as they are given into the float64 vectors that are compared.
        engine: ``faiss``, ``torch``, or ``auto``: FAISS if it is installed and the bank is on
            the CPU.

    Raises:
        MissingInput: FAISS was asked for and is not installed.
    """

    def __init__(
        self,
        bank: Tensor,
        *,
        vectors: Callable[[Tensor], Tensor] = Tensor.double,
        engine: str = "auto",
    ) -> None:
        self.engine = choose_engine(engine, bank.device)
        self._bank = bank
        self._vectors = vectors
        # Distances do not change when all rows move; centred, float32 keeps more of their digits.
        self._centre = sum(vectors(part).sum(dim=0) for part in bank.split(_CHUNK)) / len(bank)
        width = bank.shape[1]
        self._index: _Searcher = _Faiss(width) if self.engine == "faiss" else _Torch()
        longest = 0.0
        for part in bank.split(_CHUNK):
            centred = vectors(part) - self._centre
            self._index.add(centred.float())
            longest = max(longest, float(lengths(centred).max()))
        self._longest = longest
        # Rounding errors of a sum of D products grow like √D in probability (N. Higham and
        # T. Mary, SIAM J. Sci. Comput. 41(5), 2019); 4 of them is far out, 8 is the cast.
        self._error = (4 * width**0.5 + 8) * _ROUNDING
        log.info("neighbours: %s searches %d rows of width %d", self.engine, len(bank), width)

    def __len__(self) -> int:
        """Count the rows of the bank."""
        return len(self._bank)

    def kth_distance(self, queries: Tensor, k: int, own: Tensor | None = None) -> Tensor:
        """Distance to the k-th nearest row of the bank.

        Args:
            queries: (N, D), as the bank was given.
            k: Which neighbour, from 1 to the number of rows that may match.
            own: (N,) position of each query in the bank, −1 if it is not there: a row is never
                its own neighbour.

        Returns:
            (N,) float64.
        """
        parts = [self._kth(rows, k, skip) for rows, skip in self._batches(queries, own)]
        return torch.cat(parts).sqrt() if parts else queries.new_empty(0).double()

    def nearest(self, queries: Tensor, k: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Distances and positions of the k nearest rows of the bank.

        Args:
            queries: (N, D), as the bank was given, N ≥ 1.
            k: How many, from 1 to the number of rows that may match.
            own: As for :meth:`kth_distance`.

        Returns:
            (N, k) float64, ascending, and (N, k) int64; equal distances in order of position.
        """
        parts = [self._nearest(rows, k, skip) for rows, skip in self._batches(queries, own)]
        near, index = zip(*parts, strict=True)
        return torch.cat(near).sqrt(), torch.cat(index)

    def _batches(
        self, queries: Tensor, own: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Split queries, as float64 vectors, into what is searched together."""
        for start in range(0, len(queries), _QUERIES):
            stop = start + _QUERIES
            skip = None if own is None else own[start:stop]
            yield self._vectors(queries[start:stop]), skip

    def _kth(self, queries: Tensor, k: int, own: Tensor | None) -> Tensor:
        """Squared distance to the k-th nearest row, for one batch of float64 vectors."""
        centred = queries - self._centre
        near, index = self._candidates(centred.float(), k + _MARGIN, own)
        kth = near[:, k - 1 : k]
        # Order statistics move no more than the distances do, so the true k-th is within one
        # error of this one, and only candidates within two can be it.
        reach = (lengths(centred).unsqueeze(1) + self._longest).square()
        slack = 2 * (self._error * reach + queries.shape[1] * _UNDERFLOW)
        doubtful = (near - kth).abs() <= slack
        unproven = doubtful[:, -1] & (near.shape[1] < len(self))
        unproven |= doubtful.sum(dim=1) > 4 * _MARGIN
        unproven |= ~kth.squeeze(1).isfinite()  # beyond the range of float32
        doubtful &= ~unproven.unsqueeze(1)
        row, column = doubtful.nonzero(as_tuple=True)
        exact = torch.full_like(near, torch.inf).masked_fill_(near < kth, -torch.inf)
        exact[row, column] = self._squared(queries, row, index[row, column])
        answer = exact.kthvalue(k, dim=1).values
        if bool(unproven.any()):
            near, _ = self._search_all(queries[unproven], k, _at(own, unproven))
            answer[unproven] = near[:, -1]
        return answer

    def _nearest(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions of the nearest rows, for one batch of vectors."""
        centred = queries - self._centre
        near, index = self._candidates(centred.float(), k + _MARGIN, own)
        count = near.shape[1]
        # Rows that are no candidates are no nearer than the last one, but for rounding.
        reach = (lengths(centred) + self._longest).square()
        bound = near[:, -1] - self._error * reach - queries.shape[1] * _UNDERFLOW
        unproven = (index < 0).any(dim=1)  # FAISS found fewer: they are beyond float32
        index = index.clamp(min=0).sort(dim=1).values
        row = torch.arange(len(queries), device=queries.device).repeat_interleave(count)
        exact = self._squared(queries, row, index.flatten()).view(-1, count)
        if own is not None:
            exact.masked_fill_(index == own.unsqueeze(1), torch.inf)
        exact, order = exact.sort(dim=1, stable=True)
        exact, index = exact[:, :k].contiguous(), index.gather(1, order[:, :k])
        if count < len(self):
            unproven |= ~((exact[:, -1] < bound) & bound.isfinite())
        if bool(unproven.any()):
            skip = _at(own, unproven)
            exact[unproven], index[unproven] = self._search_all(queries[unproven], k, skip)
        return exact, index

    def _candidates(self, queries: Tensor, count: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions of the nearest rows, ascending; own rows at infinity."""
        want = min(len(self), count + (own is not None))
        near, index = self._index.search(queries, want)
        near = near.double()
        if own is None:
            return near, index
        near, order = near.masked_fill_(index == own.unsqueeze(1), torch.inf).sort(dim=1)
        keep = want if want == len(self) else count  # without own match there is one too many
        return near[:, :keep], index.gather(1, order)[:, :keep]

    def _squared(self, queries: Tensor, row: Tensor, index: Tensor) -> Tensor:
        """Squared distance of P pairs of a query and a row of the bank, in float64."""
        pairs = zip(row.split(_CHUNK), index.split(_CHUNK), strict=True)
        parts = [(queries[q] - self._vectors(self._bank[b])).square().sum(dim=1) for q, b in pairs]
        return torch.cat(parts) if parts else queries.new_empty(0)

    def _search_all(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions, by float64 differences over the whole bank."""
        best = queries.new_empty((len(queries), 0))
        index = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
        for start in range(0, len(self), _CHUNK):
            rows = self._vectors(self._bank[start : start + _CHUNK])
            exact = torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist")
            here = torch.arange(start, start + len(rows), device=rows.device)
            if own is not None:
                exact.masked_fill_(here == own.unsqueeze(1), torch.inf)
            best = torch.cat([best, exact], dim=1)
            index = torch.cat([index, here.expand(len(queries), -1)], dim=1)
            best, order = best.sort(dim=1, stable=True)
            best, index = best[:, :k], index.gather(1, order[:, :k])
        return best.square(), index


def choose_engine(option: str, device: torch.device) -> str:
    """Say which engine will run: FAISS on the CPU where it is installed, else torch.

    Raises:
        MissingInput: FAISS was asked for and is not installed.
    """
    if option == "torch" or (option == "auto" and device.type != "cpu"):
        return "torch"
    if _faiss() is not None:
        return "faiss"
    if option == "faiss":
        raise MissingInput(
            "neighbours: engine must be 'auto' or 'torch' where FAISS is not installed, got "
            "'faiss'; run pip install \"latentood[cpu]\" or choose engine=torch"
        )
    return "torch"


def _faiss() -> Any:
    """Import FAISS, after torch: the two bring their own OpenMP and must load in this order."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


class _Faiss:
    """Exhaustive search by FAISS."""

    def __init__(self, width: int) -> None:
        self._index = _faiss().IndexFlatL2(width)

    def add(self, vectors: Tensor) -> None:
        self._index.add(vectors.cpu().numpy())

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        near, index = self._index.search(queries.cpu().numpy(), count)
        return torch.from_numpy(near).to(queries.device), torch.from_numpy(index).to(queries.device)


class _Torch:
    """Exhaustive search by matrix products, merging the best of every chunk of the bank."""

    def __init__(self) -> None:
        self._chunks: list[tuple[Tensor, Tensor]] = []

    def add(self, vectors: Tensor) -> None:
        self._chunks.append((vectors, vectors.square().sum(dim=1)))

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


def _at(own: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if own is None else own[rows]
