"""The contract of a detector: hyperparameters, what it reads, fit, score.

A detector is a frozen dataclass of hyperparameters. ``fit`` turns rows into a state of
tensors; ``score`` is a pure function of (state, rows). No fitted flag, no batch loop, no device
move and no file access happens inside one: :class:`Fitted` does all of that for all of them.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Self

from torch import Tensor

from latentood.errors import DetectorError, MissingInput, unknown
from latentood.latents import PENULTIMATE, Latents, Statistic, features

State = dict[str, Tensor]
"""What fitting leaves behind: named tensors, nothing else."""


@dataclass(frozen=True)
class Needs:
    """The keys a detector reads: of the fit split, of the ID val split, of rows to score."""

    score: tuple[str, ...]
    fit: tuple[str, ...] = ()
    val: tuple[str, ...] = ()


def hyper(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """Declare a hyperparameter with its meaning and range.

    Args:
        default: The paper's default.
        doc: One line for the generated table.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: Value that must be exceeded.
        choices: All allowed values.
    """
    about = {"doc": doc, "low": low, "high": high, "above": above, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Detector(ABC):
    """One way to turn rows of latents into scores, higher = more OOD."""

    name: ClassVar[str]
    family: ClassVar[str]
    paper: ClassVar[str]
    """Where it comes from, with the equation."""
    works: ClassVar[str]
    """When it works: one or two sentences."""
    fails: ClassVar[str]
    """When it fails: one or two sentences."""
    cost: ClassVar[str]
    """Work to fit and to score, in the letters of the glossary."""
    per_layer: ClassVar[bool] = False
    """Whether ``layer`` may name any cached layer, so that a sweep over layers makes sense."""
    reads_bank: ClassVar[bool] = False
    """Whether scoring goes through all fit rows, so that many rows should share one way through."""

    def __post_init__(self) -> None:
        """Check every hyperparameter against its declared range."""
        for spec in fields(self):
            check_range(self.name, spec, getattr(self, spec.name))

    @abstractmethod
    def needs(self) -> Needs:
        """Declare the keys that fitting and scoring read."""

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Declare what fitting asks of the fit split, so that many detectors share one read."""
        return ()

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Turn fit rows (and ID val rows, if declared) into a state.

        Args:
            train: Rows of the fit split.
            val: Rows of the ID validation split.

        Returns:
            Named tensors.
        """
        return {}

    def val_rows(self, val: Latents | None) -> Latents:
        """Give the ID val rows of a detector that declares them.

        Raises:
            MissingInput: There are none.
        """
        if val is None:
            raise MissingInput(
                f"{self.name}: needs {', '.join(map(repr, self.needs().val))} of an ID validation "
                "split, but none was given; pass val="
            )
        return val

    def prepare(self, state: State) -> Any:
        """Turn a state into what :meth:`score` takes: by default, the state itself.

        What is quick to rebuild but large or not a tensor (a search index) is built here, once
        for all rows, and never saved.
        """
        return state

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Tell what is worth knowing of a fitted state beside its scores, such as a rank."""
        return {}

    def measure(self, state: State, ready: Callable[[], Any]) -> dict[str, Any]:
        """Tell what a fit can only know by trying, such as the recall of an index.

        Args:
            state: What :meth:`fit` returned.
            ready: Gives what :meth:`prepare` makes; call it only if needed.
        """
        return {}

    @abstractmethod
    def score(self, state: Any, rows: Latents) -> Tensor:
        """Score rows held in memory.

        Args:
            state: What :meth:`prepare` made of what :meth:`fit` returned.
            rows: N rows with the keys of ``needs().score``, and no others.

        Returns:
            (N,) float64, higher = more OOD.
        """

    @classmethod
    def make(cls, **hyperparameters: Any) -> Self:
        """Build from keyword hyperparameters; an unknown one names the nearest."""
        known = [spec.name for spec in fields(cls)]
        for name in hyperparameters:
            if name not in known:
                raise unknown(f"hyperparameter of {cls.name}", name, known)
        return cls(**hyperparameters)

    def hyperparameters(self) -> dict[str, Any]:
        """Give the hyperparameters by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}


@dataclass(frozen=True)
class FeatureDetector(Detector):
    """A detector that reads the features of one layer, and may read those of any."""

    per_layer = True
    layer: str = hyper(PENULTIMATE, "layer whose features are read; mc.entropy/<layer> works too")

    @property
    def key(self) -> str:
        """Name the array of features."""
        return features(self.layer)


def check_range(who: str, spec: Field[Any], value: Any) -> None:
    """Check one hyperparameter.

    Raises:
        DetectorError: It has the wrong type or is outside its declared range.
    """
    about = spec.metadata
    default = None if spec.default is MISSING else spec.default
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = default is None or isinstance(value, type(default))
    if not fits:
        kind = type(default).__name__
        raise DetectorError(f"{who}: {spec.name} must be of type {kind}, got {value!r}")
    if (choices := about.get("choices")) is not None and value not in choices:
        raise DetectorError(f"{who}: {spec.name} must be one of {list(choices)}, got {value!r}")
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise DetectorError(f"{who}: {spec.name} must be finite, got {value!r}")
    limits = (
        ("low", "≥", operator.ge),
        ("high", "≤", operator.le),
        ("above", ">", operator.gt),
    )
    for bound, sign, holds in limits:
        if (limit := about.get(bound)) is not None and not holds(value, limit):
            raise DetectorError(f"{who}: {spec.name} must be {sign} {limit}, got {value!r}")
