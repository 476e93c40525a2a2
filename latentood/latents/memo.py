"""Statistics of rows: each computed once, many of them from one read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import torch

from latentood.errors import DataError, StoreError

Answer = TypeVar("Answer")
Result = TypeVar("Result", covariant=True)
"""What a statistic gives."""


class Statistic(Protocol[Result]):
    """A value that a detector needs of the fit rows, computable in one streaming read.

    Statistics are hashable values (frozen dataclasses): equal statistics asked for by several
    detectors are computed once, and ``Latents.gather`` feeds any number from one read. One that
    needs the result of another calls ``source.compute`` in :meth:`start`: it then takes part in
    the read after that one. A statistic without keys reads nothing: it only follows from others.

    One that may need much memory also has ``nbytes(source) -> int``: the bytes that it takes at
    its peak, beside the chunk, as far as shapes say (see :func:`memory_of`).
    """

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""

    def start(self, source: Any) -> Accumulator[Result]:
        """Begin a read of ``source``, the latents whose chunks will follow."""

    def __hash__(self) -> int: ...


class Accumulator(Protocol[Result]):
    """The state of one statistic during one read."""

    def add(self, chunk: Any) -> None:
        """Take in the next rows, in order."""

    def result(self) -> Result:
        """Give the answer after the last chunk."""


@dataclass(frozen=True)
class Reading(Generic[Answer]):
    """An accumulator made of two functions."""

    take: Callable[[Any], None]
    finish: Callable[[], Answer]

    def add(self, chunk: Any) -> None:
        """Take in the next rows."""
        self.take(chunk)

    def result(self) -> Answer:
        """Give the answer after the last chunk."""
        return self.finish()


class Source(Protocol):
    """The part of :class:`~latentood.Latents` that a memo uses."""

    name: str
    device: torch.device

    def __len__(self) -> int:
        """Count the rows."""

    def chunks(self, keys: Iterable[str], /) -> Iterator[Any]:
        """Stream some arrays in order."""


class NotYet(Exception):
    """A statistic cannot start before another one is known."""

    def __init__(self, statistic: Statistic[Any]) -> None:
        super().__init__(statistic)
        self.statistic = statistic


Running = dict[Statistic[Any], Accumulator[Any]]


def memory_of(statistic: Statistic[Any], source: Any) -> int:
    """Give the bytes that a statistic of ``source`` takes at its peak; 0 where it does not say."""
    declared: Callable[[Any], int] | None = getattr(statistic, "nbytes", None)
    return 0 if declared is None else declared(source)


class Failures(dict[Statistic[Any], Exception]):
    """The statistics that failed in one call, which leave the others alone."""

    @contextmanager
    def apart(self, statistic: Statistic[Any]) -> Iterator[None]:
        """Keep the error of one statistic; what is wrong with the store concerns all."""
        try:
            yield
        except (StoreError, NotYet):
            raise
        except Exception as error:
            self[statistic] = error


class Memo:
    """The statistics of some rows, each computed once for a device; all views of them share it."""

    def __init__(self) -> None:
        self._known: dict[torch.device, dict[Statistic[Any], Any]] = {}
        self._lock = threading.RLock()
        self._starting: Failures | None = None  # while statistics start: those that cannot

    def compute(self, statistic: Statistic[Answer], source: Source) -> Answer:
        """Give a statistic of all rows of ``source``."""
        with self._lock:
            known = self._of(source)
            if self._starting is not None and statistic not in known:
                raise self._starting.get(statistic) or NotYet(statistic)
            self.gather([statistic], source)
            return cast("Answer", known[statistic])

    def gather(self, statistics: Iterable[Statistic[Any]], source: Source) -> None:
        """Compute what is not known yet from as few reads of ``source`` as can be.

        Raises the error of the first statistic that failed, once all others are known.
        """
        with self._lock:
            known = self._of(source)
            waiting = [s for s in dict.fromkeys(statistics) if s not in known]
            if waiting and len(source) == 0:
                raise DataError(f"{source.name}: there are no rows to fit on")
            failures = Failures()
            while waiting := self._followed(waiting, source, failures):
                waiting = self._read(waiting, source, failures)
            for error in failures.values():
                raise error

    def _of(self, source: Source) -> dict[Statistic[Any], Any]:
        return self._known.setdefault(source.device, {})

    def _followed(
        self, asked: list[Statistic[Any]], source: Source, failures: Failures
    ) -> list[Statistic[Any]]:
        """Answer what reads nothing and waits for nothing, so that the next read serves more."""
        known = self._of(source)
        self._starting = failures
        try:
            for statistic in asked:
                if not statistic.keys():
                    with suppress(NotYet), failures.apart(statistic):
                        known[statistic] = statistic.start(source).result()
        finally:
            self._starting = None
        return [one for one in asked if one not in known and one not in failures]

    def _read(
        self, asked: list[Statistic[Any]], source: Source, failures: Failures
    ) -> list[Statistic[Any]]:
        """Read once for all that can start now; gives what needs another read."""
        self._starting = failures
        try:
            running, waiting = start_all(asked, source, failures)
        finally:
            self._starting = None
        keys = tuple(dict.fromkeys(key for s in running for key in s.keys()))  # noqa: SIM118
        for chunk in source.chunks(keys) if keys else ():
            _add(chunk, running, failures)
            if running.keys() <= failures.keys():
                break
        known = self._of(source)
        for statistic, accumulator in running.items():
            if statistic not in failures:
                with failures.apart(statistic):
                    known[statistic] = accumulator.result()
        return waiting


def _add(chunk: Any, running: Running, failures: Failures) -> None:
    """Give a chunk to all statistics that read it and have not failed."""
    for statistic, accumulator in running.items():
        if statistic.keys() and statistic not in failures:
            with failures.apart(statistic):
                chunk.require_finite(statistic.keys())
                accumulator.add(chunk)


def start_all(
    asked: Iterable[Statistic[Any]], source: Source, failures: Failures
) -> tuple[Running, list[Statistic[Any]]]:
    """Start what can run in the next read, with all that others wait for.

    Also gives what has to wait for a later read: its start raised :class:`NotYet`.
    """
    queue = list(dict.fromkeys(asked))
    running: Running = {}
    waiting = []
    before = len(failures)
    for statistic in queue:  # the loop appends to it
        try:
            with failures.apart(statistic):
                running[statistic] = statistic.start(source)
        except NotYet as wait:
            waiting.append(statistic)
            if wait.statistic not in queue:
                queue.append(wait.statistic)
    if waiting and not running and len(failures) == before:
        raise RuntimeError(f"statistics wait for each other: {waiting}")
    return running, waiting


class Answers:
    """Values computed from one chunk, for all detectors that score it."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}
        self._parts: dict[tuple[int, int], Answers] = {}

    def once(self, question: Hashable, answer: Callable[[], Answer]) -> Answer:
        """Give the value of a question; ``answer`` is called only the first time."""
        if question not in self._known:
            self._known[question] = answer()
        return cast("Answer", self._known[question])

    def part(self, start: int, stop: int) -> Answers:
        """Give the values of some of the rows, the same object for the same rows."""
        return self._parts.setdefault((start, stop), Answers())
