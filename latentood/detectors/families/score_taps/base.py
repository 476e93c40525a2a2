"""The contract of a score tap: hyperparameters, what it reads of the fit split, prepare, score.

Some scores cannot be computed from a cache: they need gradients, or a map before it is pooled.
A tap computes one of them during extraction, and the cache keeps it as the column
``scores/<name>``. The detector of that name reads the column; it is made from the tap, so that
nothing about a tap is written twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.latents import Key, Latents
from latentood.plugins import Plugin, Registry, plugin


class Network(Protocol):
    """A classifier as score taps see it: differentiable in its input, its parameters left alone."""

    probe: Tensor
    """A few inputs (n, …), on the device of the model."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""

    @property
    def maps(self) -> Sequence[str]:
        """Modules that run once per forward and give a map or tokens, in the order they finish."""

    def positions_first(self, layer: str) -> bool:
        """Tell whether the map of a layer is (…, C) and not (C, …)."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → (B, C) float64."""

    def features(self, layer: str, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → features (B, D) of a layer as the cache keeps them, float64."""

    def head_input(self, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → what the head is given, (B, D) float64."""

    def head(self, who: str) -> tuple[Tensor, Tensor]:
        """Give weight (C, D) and bias (C,) of the head, float64.

        Raises:
            ModelError: No linear layer gives the logits.
        """

    def require_layer(self, layer: str, who: str) -> None:
        """Check that the cache keeps a layer, as vectors.

        Raises:
            ModelError: The pipeline does not keep it, or not as vectors.
        """

    def gradient(self, who: str, values: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Differentiate one value per row with respect to the inputs of that row.

        Args:
            who: Begins a message.
            values: (B, …) → (B,), each of its own row alone.
            inputs: (B, …); left untouched.

        Returns:
            (B, …) of the dtype of the inputs.

        Raises:
            ModelError: The inputs are no floats, or the model cannot be differentiated.
        """

    def replacing(
        self, layer: str, change: Callable[[Tensor], Tensor]
    ) -> AbstractContextManager[None]:
        """Replace the output of a module, or the first of several, until the context ends."""


@plugin
class ScoreTap(Plugin, ABC):
    """One score of a model's inputs, higher = more OOD."""

    kind = "score tap"
    remedy = "change it under scores: in the pipeline"
    paper: ClassVar[str]
    """Where it comes from, with the equation."""
    works: ClassVar[str]
    """When it works: one or two sentences."""
    fails: ClassVar[str]
    """When it fails: one or two sentences."""
    cost: ClassVar[str]
    """Work at extraction."""

    @property
    def column(self) -> Key:
        """Name the array of its scores."""
        return Key("scores", self.name)

    def reads(self) -> tuple[str, ...]:
        """Declare the arrays of the fit split that :meth:`prepare` reads."""
        return ()

    @property
    def needs_fit(self) -> bool:
        """Whether it reads the fit split; its own column is then not computed there."""
        return bool(self.reads())

    def companion(self) -> ScoreTap | None:
        """Give the tap whose column of the fit split this one reads, if it is not in the logits."""
        return None

    def settle(self, network: Network) -> Self:
        """Check against the model, before anything is written, and fill in what it decides.

        Raises:
            ModelError: The tap does not fit the model.
        """
        return self

    def prepare(self, network: Network, fit: Latents) -> Any:
        """Compute once what all batches need; asked only of a tap that reads the fit split.

        Args:
            network: The model.
            fit: Committed rows of the fit split, with the arrays of :meth:`reads`.

        Returns:
            A state; it follows from the arguments alone, so that a resumed run has the same.
        """
        return None

    @abstractmethod
    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Score one batch.

        Args:
            network: The model, in eval mode; only inputs and maps may require gradients.
            inputs: (B, …), left untouched.
            state: What :meth:`prepare` returned; ``None`` if it reads no fit split.

        Returns:
            (B,) float64, higher = more OOD; a row's score does not depend on the other rows.
        """


@plugin
class Column(Detector):
    """The column ``scores/<name>``, as it is."""

    family = "columns"

    @property
    def key(self) -> Key:
        """Name the column."""
        return Key("scores", self.name)

    def needs(self) -> Needs:
        """Declare the column of the rows to score."""
        return Needs(score=(self.key,))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Give the column: (N,)."""
        return rows.double(self.key)


@cache
def column_of(tap: type[ScoreTap]) -> type[Column]:
    """Make the detector that reads the column of a tap."""
    about = {name: getattr(tap, name) for name in ("name", "paper", "works", "fails")}
    cost = f"at extraction: {tap.cost}; O(1) per row from the cache"
    names = {"__doc__": tap.__doc__, "__module__": tap.__module__, "cost": cost, **about}
    return plugin(type(f"{tap.__name__}Column", (Column,), names))


SCORE_TAPS: Registry[ScoreTap] = Registry(ScoreTap, group="latentood.score_taps", noun="score tap")
