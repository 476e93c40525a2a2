"""Latents: named arrays of rows, in memory or read lazily from a cache.

They are the only input of a detector. Row ``i`` of every array belongs
to the same input. The names of the arrays are in :mod:`latentood.latents.key`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentood.errors import ConfigError, DataError, MissingInput
from latentood.latents.arrays import (
    check_shapes,
    checked_hashes,
    checked_head,
    checked_tensor,
    first_unusable,
)
from latentood.latents.entropies import with_entropies
from latentood.latents.key import (
    HASHES,
    HEAD,
    LABELS,
    LOGITS,
    MC_LOGITS,
    NETWORK,
    Key,
    Unit,
    missing,
)
from latentood.latents.members import member_rows
from latentood.latents.memo import Answers, Memo, Statistic
from latentood.latents.rows import Budget, InMemory, Kept, Rows

Answer = TypeVar("Answer")

CHUNK_ROWS = 4096
"""Rows that are reduced together. Fixed, so that no sum depends on how a cache is laid out."""


class Latents:
    """Named arrays of rows.

    Args:
        logits: (N, C).
        features: layer → (N, D).
        labels: (N,) integers.
        hashes: (N,) int64, a digest of each input: rows with equal ones are the same input.
        head: ``(weight (C, D), bias (C,))`` of the last linear layer.
        mc_logits: (N, T, C).
        mc_features: layer → (N, T, D).
        mc_entropy: layer → (N, D).
        scores: name → (N,), scores that were computed beside the logits.
        dirichlet: head → (N, C), log concentrations of the Dirichlet that it predicts; an array
            alone is that of the network itself, here and below.
        density: head → (N, C), log density of the latent vector for each class.
        distance: head → (N, C), squared distance to the nearest prototype of each class.
        weighted_logits: head → (N, C), logits plus the learnt log weight of each class.
        name: What to call these rows in messages.

    Arrays may be torch tensors or NumPy arrays; any subset may be given. From ``mc_features`` of a
    layer whose entropies are not given they are computed as they are read.

    Attributes:
        unit: What a row is about: an ``image``, a ``cell`` or a ``box``.

    Raises:
        DataError: No array; arrays with different numbers of rows, without columns, or of other
            types than real numbers; hashes that are not (N,) int64; a head that is not finite, or
            of other classes than the logits.
    """

    unit: Unit = "image"

    def __init__(
        self,
        *,
        logits: Any = None,
        features: Mapping[str, Any] | None = None,
        labels: Any = None,
        hashes: Any = None,
        head: tuple[Any, Any] | None = None,
        mc_logits: Any = None,
        mc_features: Mapping[str, Any] | None = None,
        mc_entropy: Mapping[str, Any] | None = None,
        scores: Mapping[str, Any] | None = None,
        dirichlet: Any = None,
        density: Any = None,
        distance: Any = None,
        weighted_logits: Any = None,
        name: str = "latents",
    ) -> None:
        given = {LOGITS: logits, LABELS: labels, MC_LOGITS: mc_logits}
        for kind, arrays in (
            ("features", features),
            ("mc.features", mc_features),
            ("mc.entropy", mc_entropy),
            ("scores", scores),
            *(
                (kind, arrays if isinstance(arrays, Mapping | None) else {NETWORK: arrays})
                for kind, arrays in (
                    ("dirichlet", dirichlet),
                    ("density", density),
                    ("distance", distance),
                    ("weighted_logits", weighted_logits),
                )
            ),
        ):
            given |= {Key(kind, layer): value for layer, value in (arrays or {}).items()}
        rows: dict[Key, Rows] = {
            key: InMemory(checked_tensor(value, f"{name}: {key}"))
            for key, value in given.items()
            if value is not None
        }
        if hashes is not None:
            rows[HASHES] = InMemory(checked_hashes(hashes, f"{name}: {HASHES}"))
        self._setup(*self._checked(rows, head, name), name)

    @classmethod
    def from_rows(
        cls,
        rows: Mapping[str, Rows] | Mapping[Key, Rows],
        *,
        head: tuple[Any, Any] | None = None,
        name: str = "latents",
        origin: str | None = None,
        offset: int = 0,
        device: torch.device | str = "cpu",
    ) -> Latents:
        """Wrap arrays that are read on demand.

        Args:
            rows: key → array.
            head: As in the constructor.
            name: What to call these rows in messages.
            origin: Identity of the split these rows were taken from; equal origins mean the
                same rows (a neighbour search then skips a row's match with itself); only where
                there are no hashes.
            offset: Position of the first row within its origin.
            device: Device of the tensors that are read.
        """
        latents = cls.__new__(cls)
        keyed = {Key.parse(key): array for key, array in rows.items()}
        latents._setup(*cls._checked(keyed, head, name), name, origin, offset, device)
        return latents

    @staticmethod
    def _checked(
        rows: dict[Key, Rows], head: tuple[Any, Any] | None, name: str
    ) -> tuple[dict[Key, Rows], tuple[Tensor, Tensor] | None]:
        """Check what is given, once: views and chunks of it are not checked again."""
        classes = check_shapes({key: array.shape for key, array in rows.items()}, name)
        return with_entropies(rows), head and checked_head(head, classes, name)

    def _setup(
        self,
        rows: dict[Key, Rows],
        head: tuple[Tensor, Tensor] | None,
        name: str,
        origin: str | None = None,
        offset: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._rows = rows
        self._head = head
        self._memo = Memo()
        self._answers: Answers | None = None  # of a chunk
        self.name = name
        self.origin = origin or uuid.uuid4().hex
        self.offset = offset
        # The name of a device in full: "cuda" means whichever is the current one.
        self.device = torch.empty(0, device=device).device

    def __len__(self) -> int:
        """Count the rows."""
        return next(iter(self._rows.values())).shape[0]

    def __repr__(self) -> str:
        """Show name, rows and keys."""
        return f"Latents({self.name!r}, {len(self)} rows, keys: {', '.join(self.keys())})"

    def keys(self) -> tuple[Key, ...]:
        """Name the arrays that are there (``head`` included)."""
        return (*self._rows, HEAD) if self._head is not None else tuple(self._rows)

    def __contains__(self, key: object) -> bool:
        """Whether an array is there."""
        return key in self.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array, rows first."""
        return self._array(key).shape

    def __getitem__(self, key: str) -> Tensor:
        """Read a whole array, in its stored dtype."""
        return self.read(key, 0, len(self))

    def read(self, key: str, start: int, stop: int) -> Tensor:
        """Read rows ``start`` to ``stop`` of an array, in its stored dtype."""
        return self._array(key).read(start, stop).to(self.device)

    def double(self, key: str) -> Tensor:
        """Read a whole array as float64, the dtype of all statistics."""
        return self[key].double()

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of the last linear layer, float64."""
        if self._head is None:
            raise self._missing(HEAD)
        weight, bias = self._head
        return weight.to(self.device).double(), bias.to(self.device).double()

    def to(self, device: torch.device | str) -> Latents:
        """Give tensors on another device; nothing is read or copied yet.

        Statistics are remembered for each device: going there twice computes them once.
        """
        view = self._view(self._rows, torch.device(device))
        return self if view.device == self.device else view

    def within(self, budget: Budget) -> Latents:
        """Keep arrays in memory once they were read, as far as a budget allows.

        No number depends on the budget, only how often an array is read again.
        """
        rows: dict[Key, Rows] = {
            key: array if isinstance(array, InMemory | Kept) else Kept(array, budget)
            for key, array in self._rows.items()
        }
        return self if rows == self._rows else self._view(rows, self.device)

    def take(self, keys: Iterable[str], start: int, stop: int) -> Latents:
        """Bring some arrays of some rows into memory.

        The result holds only the keys asked for, so that nothing undeclared can be read.
        """
        wanted = tuple(keys)
        read = {key: self.read(key, start, stop) for key in wanted if key != HEAD}
        rows: dict[Key, Rows] = {Key.parse(key): InMemory(array) for key, array in read.items()}
        if not rows:  # a detector that reads the head alone still needs to know its rows
            raise DataError(f"{self.name}: no array of rows was asked for")
        part = Latents.__new__(Latents)
        head = self.head if HEAD in wanted else None
        part.unit = self.unit
        part._setup(rows, head, self.name, self.origin, self.offset + start, self.device)
        part._answers = Answers() if self._answers is None else self._answers.part(start, stop)
        return part

    def rows(self, key: str) -> Rows:
        """Give an array as it is: rows on the CPU, read on demand."""
        return self._array(key)

    def extended(self, rows: Mapping[Key, Rows]) -> Latents:
        """Give the same rows with further arrays.

        Raises:
            DataError: An array has another number of rows or classes.
        """
        whole, _ = self._checked(self._rows | dict(rows), None, self.name)
        return self._view(whole, self.device)

    def members(self, unit: Unit) -> Latents:
        """Give the cells or boxes of all images as rows of their own: (N, K, …) becomes (M, …).

        Their arrays have the keys that images have: ``boxes.features/<layer>`` is
        ``features/<layer>`` here, so that every detector reads them as it reads images. ``image``
        gives the rows as they are.

        Raises:
            MissingInput: There are no such members.
            DataError: No image has one.
        """
        if unit == "image":
            return self
        self.require([Key("count", unit=unit)], who=f"unit {unit}")
        rows, _ = member_rows(self._rows, unit, self.name)
        members = Latents.__new__(Latents)
        whole, _ = self._checked(rows, None, self.name)
        members._setup(whole, self._head, self.name, f"{self.origin}:{unit}", 0, self.device)
        members.unit = unit
        return members

    def chunks(self, keys: Iterable[str], rows: int = CHUNK_ROWS) -> Iterator[Latents]:
        """Stream some arrays in order, ``rows`` rows at a time."""
        wanted = tuple(dict.fromkeys(keys))
        for start in range(0, len(self), rows):
            yield self.take(wanted, start, min(start + rows, len(self)))

    def compute(self, statistic: Statistic[Answer]) -> Answer:
        """Give a statistic of all rows; computed once, then remembered."""
        return self._memo.compute(statistic, self)

    def gather(self, statistics: Iterable[Statistic[Any]]) -> None:
        """Compute many statistics from one read of the arrays they need.

        Statistics that wait for others take one more read, together.

        Raises:
            MissingInput: A statistic reads an array that is not there.
            DataError: There are no rows, or a value is not finite (names the row).
        """
        self._memo.gather(statistics, self)

    def once(self, question: Hashable, answer: Callable[[], Answer]) -> Answer:
        """Compute a value of a chunk once, for all detectors that score it.

        The question names everything that the value depends on beside the rows. Only a chunk
        remembers values; other rows compute them again.
        """
        return answer() if self._answers is None else self._answers.once(question, answer)

    def require_finite(self, keys: Iterable[str] | None = None) -> None:
        """Refuse NaN, infinity, and numbers whose squares float64 cannot hold.

        Args:
            keys: Which arrays; default: all.

        Raises:
            DataError: Names the array and the first bad row.
        """
        for key in self._rows if keys is None else keys:
            bad = self.once((first_unusable, key), partial(self._first_unusable, key))
            if bad is not None:
                row, what = bad
                raise DataError(
                    f"{self.name}: {key} must be {what} in row {self.offset + row}; look at that "
                    "input or at the model's weights"
                )

    def require(self, keys: Iterable[str], *, who: str) -> None:
        """Check that all keys are there.

        Raises:
            MissingInput: Names the first missing one and what to add.
        """
        for key in keys:
            if key not in self:
                raise self._missing(key, who)

    def _first_unusable(self, key: str) -> tuple[int, str] | None:
        return first_unusable(self[key])

    def _view(self, rows: Mapping[Key, Rows], device: torch.device) -> Latents:
        """Give the same rows from other arrays or on another device, with their statistics."""
        view = Latents.__new__(Latents)
        view._setup(dict(rows), self._head, self.name, self.origin, self.offset, device)
        view._memo = self._memo
        view.unit = self.unit
        return view

    def _array(self, key: str) -> Rows:
        try:
            return self._rows[Key.parse(key)]
        except (KeyError, ConfigError):
            raise self._missing(key) from None

    def _missing(self, key: str, who: str = "") -> MissingInput:
        return missing(key, self.keys(), where=self.name, who=who)
