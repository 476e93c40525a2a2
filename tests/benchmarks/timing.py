"""Fair ratios on a noisy machine: both sides take turns, and each pair gives one ratio."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """How long ours took, in units of a rival.

    Attributes:
        name: What was measured.
        rival: What it is measured against.
        median: Median over pairs of ours ÷ rival.
        low: Smallest pair.
        high: Largest pair.
        ours_seconds: Median of ours.
        rival_seconds: Median of the rival.
        goal: What was aimed at, as ours ÷ rival.
        detail: Sizes.
        parts: Seconds of ours by part, where that is worth telling.
    """

    name: str
    rival: str
    median: float
    low: float
    high: float
    ours_seconds: float
    rival_seconds: float
    goal: float
    detail: str
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the median meets the goal."""
        return self.median <= self.goal

    def to_json(self) -> dict[str, Any]:
        """Give all values by name."""
        return asdict(self) | {"reached": self.reached}


def ratio(
    name: str,
    ours: Callable[[], object],
    rival: Callable[[], object],
    *,
    against: str,
    goal: float,
    detail: str,
    pairs: int = 5,
    rival_share: float = 1.0,
) -> Ratio:
    """Time two callables in turn.

    Args:
        name: What is measured.
        ours: Ours.
        rival: The other; it is warmed up like ours.
        against: Its name.
        goal: Ours ÷ rival that is aimed at.
        detail: Sizes.
        pairs: How many turns each.
        rival_share: Share of the whole work that the rival does, where all of it takes too long.
    """
    ours(), rival()
    times = [(_seconds(ours), _seconds(rival) / rival_share) for _ in range(pairs)]
    ratios = [mine / theirs for mine, theirs in times]
    return Ratio(
        name=name,
        rival=against,
        median=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours_seconds=statistics.median(mine for mine, _ in times),
        rival_seconds=statistics.median(theirs for _, theirs in times),
        goal=goal,
        detail=detail,
    )


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
