"""What can be asked of rows, and how it is answered: in one pass, and once."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

import torch

from latentood.errors import DataError

Answer = TypeVar("Answer")
Result = TypeVar("Result", covariant=True)


class Statistic(Protocol[Result]):
    """What a detector wants to know about the fit rows, computable in one streaming pass.

    Statistics are hashable values (frozen dataclasses): equal statistics asked for by several
    detectors are computed once, and ``Latents.gather`` feeds any number from one read. One that
    needs the result of another calls ``source.compute`` in :meth:`start`: it then takes part in
    the pass after that one. A statistic without keys reads nothing: it only follows from others.
    """

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""

    def start(self, source: Any) -> Accumulator[Result]:
        """Begin a pass over ``source``, the latents whose blocks will follow."""

    def __hash__(self) -> int: ...


class Accumulator(Protocol[Result]):
    """The state of one statistic during one pass."""

    def add(self, block: Any) -> None:
        """Take in the next rows, in order."""

    def result(self) -> Result:
        """Close the pass."""


class NotYet(Exception):
    """A statistic cannot start before another one is known."""

    def __init__(self, statistic: Statistic[Any]) -> None:
        super().__init__(statistic)
        self.statistic = statistic


Running = dict[Statistic[Any], Accumulator[Any]]


def start_all(asked: Iterable[Statistic[Any]], source: Any) -> tuple[Running, list[Statistic[Any]]]:
    """Start what can run in the next pass.

    Args:
        asked: What is not known yet.
        source: Latents whose ``compute`` raises :class:`NotYet` for what is not known.

    Returns:
        What runs, with all that others wait for, and what has to wait for a later pass.

    Raises:
        RuntimeError: Statistics that wait for each other.
    """
    queue = list(dict.fromkeys(asked))
    running: Running = {}
    waiting = []
    for statistic in queue:  # grows while it is walked
        try:
            running[statistic] = statistic.start(source)
        except NotYet as wait:
            waiting.append(statistic)
            if wait.statistic not in queue:
                queue.append(wait.statistic)
    if not running:
        raise RuntimeError(f"statistics wait for each other: {waiting}")
    return running, waiting


class Answering(ABC):
    """Rows that answer questions, each of them once."""

    name: str
    _device: torch.device

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    @abstractmethod
    def blocks(self, keys: Iterable[str]) -> Iterator[Any]:
        """Stream some arrays in order."""

    def compute(self, statistic: Statistic[Answer]) -> Answer:
        """Give a statistic of all rows; computed once, then remembered."""
        with self._lock:
            if self._starting and statistic not in self._memo:
                raise NotYet(statistic)
            self.gather([statistic])
            return cast("Answer", self._memo[statistic])

    def gather(self, statistics: Iterable[Statistic[Any]]) -> None:
        """Compute many statistics from one read of the arrays they need.

        Statistics that wait for others take one more read, together.

        Raises:
            MissingInput: A statistic reads an array that is not there.
            DataError: There are no rows, or a value is not finite (names the row).
        """
        with self._lock:
            waiting = [s for s in dict.fromkeys(statistics) if s not in self._memo]
            if waiting and len(self) == 0:
                raise DataError(f"{self.name}: there are no rows to fit on")
            while waiting:
                waiting = self._pass(waiting)

    def _pass(self, asked: list[Statistic[Any]]) -> list[Statistic[Any]]:
        """Read once for all that can be known after it; gives back what needs another read."""
        self._starting = True
        try:
            running, waiting = start_all(asked, self)
        finally:
            self._starting = False
        keys = tuple(dict.fromkeys(key for s in running for key in s.keys()))  # noqa: SIM118
        for block in self.blocks(keys) if keys else ():
            block.require_finite()
            for statistic, accumulator in running.items():
                if statistic.keys():
                    accumulator.add(block)
        for statistic, accumulator in running.items():
            self._memo[statistic] = accumulator.result()
        return waiting

    def once(self, question: Hashable, answer: Callable[[], Answer]) -> Answer:
        """Answer a question about a block once, for all detectors that score it.

        Args:
            question: Says everything that the answer depends on beside the rows.
            answer: Works it out; called only if nobody has asked before. Outside of a block
                nothing is remembered.
        """
        if self._answers is None:
            return answer()
        if question not in self._answers:
            self._answers[question] = answer()
        return cast("Answer", self._answers[question])

    def _know_nothing(self) -> None:
        self._memos: dict[torch.device, dict[Hashable, Any]] = {}
        self._answers: dict[Hashable, Any] | None = None  # of a block
        self._lock = threading.RLock()
        self._starting = False

    def _know_what(self, other: Answering) -> None:
        """Share the statistics of another view of the same rows."""
        self._memos, self._lock = other._memos, other._lock

    def _be_part_of(self, whole: Answering, start: int, stop: int) -> None:
        """Become a block: parts of one share what is known of them, and it goes when they go."""
        inherited = {} if whole._answers is None else whole._answers
        self._answers = inherited.setdefault((Answering, start, stop), {})

    @property
    def _memo(self) -> dict[Hashable, Any]:
        return self._memos.setdefault(self._device, {})
