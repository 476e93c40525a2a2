"""Weights of a loss that change in the course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from latentood.errors import ConfigError
from latentood.training.objectives.base import Moment

Points = tuple[tuple[float, float], ...]
"""(share of the run, value), in ascending order of the shares."""


def rise(moment: Moment, epochs: float) -> float:
    """Give min(1, t/epochs) after t epochs, and 1 where there are none to wait for."""
    return min(1.0, moment.epoch / epochs) if epochs > 0 else 1.0


def interpolate(moment: Moment, points: Points) -> float:
    """Give the value at the moment's share of the run: linear between points, constant outside."""
    for (start, low), (end, high) in pairwise(points):
        if moment.share < end:
            return low + (high - low) * max(0.0, moment.share - start) / (end - start)
    return points[-1][1]


def check_points(who: str, name: str, points: Sequence[tuple[float, float]]) -> None:
    """Refuse points that are no schedule.

    Raises:
        ConfigError: Shares are not in [0, 1] or not ascending, or a value is below 0.
    """
    shares = [share for share, _ in points]
    ascending = all(start < end for start, end in pairwise(shares))
    inside = all(0 <= share <= 1 for share in shares)
    if not (ascending and inside and all(value >= 0 for _, value in points)):
        raise ConfigError(
            f"{who}: {name} must be pairs (share of the run, value ≥ 0) with ascending shares in "
            f"[0, 1], got {[list(point) for point in points]}; e.g. [[0, 0], [0.2, 0.01], [1, 1]]"
        )
