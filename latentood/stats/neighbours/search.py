"""Exact nearest neighbours: one interface, two engines, the same answers.

An engine (FAISS where it is installed, else torch) proposes candidates in float32. Distances
close enough to the k-th for float32 to have misordered them are then computed again from the
rows in float64, so the answer is that of a float64 search over all rows, whichever engine ran.
Rows where the candidates cannot prove their answer are searched in float64 outright.

An approximate index proposes candidates that may miss neighbours: distances are then those of a
float64 search over what it proposed. How much it misses is measured, not assumed (``recall``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from latentood.stats.linalg import lengths, parts
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.engines import Searcher, make_searcher, possible_engines

EFFORT = 64

_QUERIES = 2048  # rows searched together
_CHUNK = 8192  # rows of the bank per float64 search
_PAIR_ELEMENTS = 1 << 18  # of differences of pairs: 2 MiB, which a cache holds
_MARGIN = 16  # candidates beyond the k-th
_COPIES = 64  # candidates beyond these, in place of copies; rows with more are compared with all
_SAMPLE = 1 << 12  # rows of the bank that its middle is computed from, at least
_RECALL = 256  # rows of the bank that recall is measured with
_TRAINING = 1 << 16  # rows of the bank that an ivf index learns its lists from
_ROUNDING = torch.finfo(torch.float32).eps
_UNDERFLOW = torch.finfo(torch.float32).tiny  # squares below it lose digits, or all of them


class Neighbours:
    """The rows of a bank, ready to be searched by euclidean distance.

    Memory: the bank as given plus its float32 vectors; a search adds about 200 MiB at most.

    Args:
        bank: (M, D), any float dtype; kept, not copied.
        vectors: Turns rows as they are given into the float64 vectors that are compared.
        engine: ``faiss``, ``torch``, or ``auto``: on the CPU FAISS if it is installed, on a GPU
            the faster of those that run there.
        index: ``flat``: exact; ``ivf``, ``hnsw``: approximate, by FAISS.
        effort: How many lists of ``ivf`` or candidates of ``hnsw`` a search visits.

    Attributes:
        asked: Values of k that this index will be searched for.

    Raises:
        MissingInput: FAISS was asked for and is not installed.
    """

    def __init__(
        self,
        bank: Tensor,
        *,
        vectors: Callable[[Tensor], Tensor] = Tensor.double,
        engine: str = "auto",
        index: str = "flat",
        effort: int = EFFORT,
    ) -> None:
        self.asked: set[int] = set()
        self._bank = bank
        self._vectors = vectors
        # Distances do not change when all rows move; near the middle, float32 keeps more digits.
        self._centre = vectors(bank[:: max(1, len(bank) // _SAMPLE)]).mean(dim=0)
        width = len(self._centre)  # of the vectors
        spread = torch.arange(0, len(bank), max(1, len(bank) // _TRAINING))
        self._index: Searcher = make_searcher(
            possible_engines(engine, bank.device, index),
            index,
            effort,
            shape=(len(bank), width),
            device=bank.device,
            sample=lambda: (vectors(bank[spread]) - self._centre).float(),
        )
        longest = []  # of float32: off by far less than the error below allows for
        for part in parts(bank):
            single = (vectors(part) - self._centre).float()
            longest.append(lengths(single).amax())
            self._index.add(single)
        self._longest = float(torch.stack(longest).amax())
        # Rounding errors of a sum of D products grow like √D in probability (N. Higham and
        # T. Mary, SIAM J. Sci. Comput. 41(5), 2019); 4 of them is far out, 8 is the cast.
        self._error = (4 * width**0.5 + 8) * _ROUNDING

    @property
    def engine(self) -> str:
        """Name the engine that searches: ``faiss`` or ``torch``."""
        return self._index.engine

    def __len__(self) -> int:
        """Count the rows of the bank."""
        return len(self._bank)

    @classmethod
    def over(
        cls,
        bank: Tensor,
        *,
        vectors: Callable[[Tensor], Tensor],
        engine: str,
        index: str,
        effort: int,
    ) -> Neighbours:
        """Give the index over a bank that is built once, for all that use it at the time.

        The arguments are those of the class; ``bank`` is the same if it is the same tensor.
        """
        key = (id(bank), vectors, engine, index, effort)  # no other bank has that id: it is held
        built = _BUILT.get(key)
        if built is None:
            built = _BUILT[key] = cls(
                bank, vectors=vectors, engine=engine, index=index, effort=effort
            )
        return built

    def kth_distance(self, queries: Tensor, k: int, own: Copies | None = None) -> Tensor:
        """Distance to the k-th nearest row of the bank, as :meth:`kth_distances`: (N,) float64."""
        return self.kth_distances(queries, (k,), own)[k]

    def kth_distances(
        self, queries: Tensor, ks: Iterable[int], own: Copies | None = None
    ) -> dict[int, Tensor]:
        """Distances of queries (N, D) to the k-th nearest rows of the bank: k → (N,) float64.

        All ``ks`` come from one search; each is at most the number of rows that may match. ``own``
        are the copies of the queries in the bank: no copy of a row is its neighbour.
        """
        wanted = sorted(set(ks))
        parts = [self._kth(rows, wanted, skip) for rows, skip in self._batches(queries, own)]
        if not parts:
            return {k: queries.new_empty(0).double() for k in wanted}
        return dict(zip(wanted, torch.cat(parts, dim=1).sqrt(), strict=True))

    def recall(self, k: int, *, seed: int = 0) -> float:
        """Measure which share, in [0, 1], of the k nearest rows the index proposes.

        A sample of the bank, drawn by ``seed``, is searched for, each row without its own match.
        """
        sample = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:_RECALL]
        places = sample.to(self._bank.device)
        own = Copies.of(torch.arange(len(self), device=places.device), places)
        k = max(1, min(k, len(self) - 1))
        queries = self._vectors(self._bank[places])
        proposed = self._candidates((queries - self._centre).float(), k, own)[1]
        _, truth = self._search_all(queries, k, own)
        query = places.unsqueeze(1) * len(self)  # so that neighbours of different rows differ
        hits = torch.isin(proposed + query, truth + query)
        return float((hits & (proposed >= 0)).double().sum() / truth.numel())

    def nearest(self, queries: Tensor, k: int, own: Copies | None = None) -> tuple[Tensor, Tensor]:
        """Distances (N, k) float64, ascending, and positions of the k nearest rows of the bank.

        Queries are (N, D), N ≥ 1; equal distances are in order of position. ``k`` and ``own`` are
        as for :meth:`kth_distances`.
        """
        parts = [self._nearest(rows, k, skip) for rows, skip in self._batches(queries, own)]
        near, index = zip(*parts, strict=True)
        return torch.cat(near).sqrt(), torch.cat(index)

    def _batches(
        self, queries: Tensor, own: Copies | None
    ) -> Iterator[tuple[Tensor, Copies | None]]:
        """Split queries, as float64 vectors, into what is searched together."""
        for start in range(0, len(queries), _QUERIES):
            stop = start + _QUERIES
            skip = None if own is None else own[start:stop]
            yield self._vectors(queries[start:stop]), skip

    def _kth(self, queries: Tensor, ks: list[int], own: Copies | None) -> Tensor:
        """Squared distances (K, N) to the k-th nearest rows, for one batch of float64 vectors."""
        centred = queries - self._centre
        near, index = self._candidates(centred.float(), ks[-1] + _MARGIN, own)
        # Order statistics move no more than the distances do, so the true k-th is within one
        # error of this one, and only candidates within two can be it.
        reach = (lengths(centred).unsqueeze(1) + self._longest).square()
        slack = 2 * (self._error * reach + queries.shape[1] * _UNDERFLOW)
        return torch.stack([self._decided(queries, near, index, k, slack, own) for k in ks])

    def _decided(
        self,
        queries: Tensor,
        near: Tensor,
        index: Tensor,
        k: int,
        slack: Tensor,
        own: Copies | None,
    ) -> Tensor:
        """Decide in float64 which of the candidates is the k-th: its squared distance (N,)."""
        kth = near[:, k - 1 : k]
        doubtful = (near - kth).abs() <= slack
        unproven = doubtful[:, -1] & (near.shape[1] < len(self))
        unproven |= doubtful.sum(dim=1) > 4 * _MARGIN
        unproven |= ~kth.squeeze(1).isfinite()  # beyond the range of float32, or not proposed
        doubtful &= ~unproven.unsqueeze(1)
        row, column = doubtful.nonzero(as_tuple=True)
        exact = torch.full_like(near, torch.inf).masked_fill_(near < kth, -torch.inf)
        exact[row, column] = self._squared(queries, row, index[row, column])
        answer = exact.kthvalue(k, dim=1).values
        if bool(unproven.any()):
            nearest, _ = self._search_all(queries[unproven], k, _at(own, unproven))
            answer[unproven] = nearest[:, -1]
        return answer

    def _nearest(self, queries: Tensor, k: int, own: Copies | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions of the nearest rows, for one batch of vectors."""
        centred = queries - self._centre
        near, index = self._candidates(centred.float(), k + _MARGIN, own)
        count = near.shape[1]
        # Rows that are no candidates are no nearer than the last one, but for rounding.
        reach = (lengths(centred) + self._longest).square()
        bound = near[:, -1] - self._error * reach - queries.shape[1] * _UNDERFLOW
        unproven = (index < 0).any(dim=1)  # FAISS gave fewer: they are beyond float32
        index = index.clamp(min=0).sort(dim=1).values
        row = torch.arange(len(queries), device=queries.device).repeat_interleave(count)
        exact = self._squared(queries, row, index.flatten()).view(-1, count)
        if own is not None:
            exact.masked_fill_(own.among(index), torch.inf)
        exact, order = exact.sort(dim=1, stable=True)
        exact, index = exact[:, :k].contiguous(), index.gather(1, order[:, :k])
        if count < len(self):
            unproven |= ~((exact[:, -1] < bound) & bound.isfinite())
        if bool(unproven.any()):
            skip = _at(own, unproven)
            exact[unproven], index[unproven] = self._search_all(queries[unproven], k, skip)
        return exact, index

    def _candidates(self, queries: Tensor, count: int, own: Copies | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions of the nearest rows, ascending; copies at infinity."""
        extra = 0 if own is None else min(max(own.most, 1), _COPIES)
        want = min(len(self), count + extra)
        near, index = self._index.search(queries, want)
        near = near.double()
        if own is None:
            return near, index
        copies = own.among(index)
        near, order = near.masked_fill_(copies, torch.inf).sort(dim=1)
        if want == len(self):
            return near, index.gather(1, order)
        near[copies.sum(dim=1) > extra] = torch.inf  # others may be near, too: nothing is proven
        return near[:, :count], index.gather(1, order)[:, :count]

    def _squared(self, queries: Tensor, row: Tensor, index: Tensor) -> Tensor:
        """Squared distance of P pairs of a query and a row of the bank, in float64."""
        step = max(1, _PAIR_ELEMENTS // queries.shape[1])
        pairs = zip(row.split(step), index.split(step), strict=True)
        parts = [(queries[q] - self._vectors(self._bank[b])).square().sum(dim=1) for q, b in pairs]
        return torch.cat(parts) if parts else queries.new_empty(0)

    def _search_all(self, queries: Tensor, k: int, own: Copies | None) -> tuple[Tensor, Tensor]:
        """Squared distances and positions, by float64 differences over the whole bank."""
        best = queries.new_empty((len(queries), 0))
        index = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
        for start in range(0, len(self), _CHUNK):
            rows = self._vectors(self._bank[start : start + _CHUNK])
            exact = torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist")
            here = torch.arange(start, start + len(rows), device=rows.device)
            if own is not None:
                exact.masked_fill_(own.among(slice(start, start + len(rows))), torch.inf)
            best = torch.cat([best, exact], dim=1)
            index = torch.cat([index, here.expand(len(queries), -1)], dim=1)
            best, order = best.sort(dim=1, stable=True)
            best, index = best[:, :k], index.gather(1, order[:, :k])
        return best.square(), index


_BUILT: WeakValueDictionary[object, Neighbours] = WeakValueDictionary()
"""What :meth:`Neighbours.over` built and somebody still uses."""


def _at(own: Copies | None, rows: Tensor) -> Copies | None:
    return None if own is None else own[rows]
