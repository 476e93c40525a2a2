"""What many statistics share: the array they read."""

from __future__ import annotations

from dataclasses import dataclass

from latentood.latents import LABELS, LOGITS, Latents

FLOAT64 = 8
"""Bytes of a number."""


@dataclass(frozen=True)
class OfArray:
    """A statistic of one array."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)


@dataclass(frozen=True)
class OfClasses(OfArray):
    """A statistic of one array by the labels of its rows."""

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)


@dataclass(frozen=True)
class OfPredictions(OfArray):
    """A statistic of one array by the predicted classes of its rows."""

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LOGITS)


def width_of(source: Latents, key: str) -> int:
    """Give D of an array (N, …, D), for estimates of memory."""
    return source.shape(key)[-1]


def class_count(source: Latents) -> int:
    """Count the classes that occur in the labels."""
    return len(source[LABELS].unique())
