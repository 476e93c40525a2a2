"""The contract of a score tap: hyperparameters, what it reads of the fit split, prepare, score.

Some scores cannot be computed from a cache: they need gradients, or a map before it is pooled.
A tap computes one of them during extraction, and the cache keeps it as the column
``scores/<name>``. It is a frozen pydantic dataclass of hyperparameters, so that the pipeline file
checks them like all its other values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from latentood.errors import ConfigError, unknown
from latentood.extract.scores.network import Network
from latentood.latents import Latents, score_column


@dataclass(frozen=True)
class ScoreTap(ABC):
    """One score of a model's inputs, higher = more OOD."""

    name: ClassVar[str]
    paper: ClassVar[str]
    """Where it comes from, with the equation."""

    @classmethod
    def make(cls, **hyperparameters: Any) -> Self:
        """Build from keyword hyperparameters.

        Raises:
            UnknownName: There is no such hyperparameter (names the nearest).
            ConfigError: One is outside its range.
        """
        known = [spec.name for spec in fields(cls)]
        for name in hyperparameters:
            if name not in known:
                raise unknown(f"hyperparameter of score tap {cls.name}", name, known)
        try:
            return cls(**hyperparameters)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            message = problem["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"score tap {cls.name}: {where}: {message[:1].lower()}{message[1:]}, got "
                f"{problem['input']!r}; change it under scores: in the pipeline"
            ) from None

    def hyperparameters(self) -> dict[str, Any]:
        """Give the hyperparameters by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}

    @property
    def who(self) -> str:
        """Begin messages."""
        return f"score tap {self.name}"

    @property
    def column(self) -> str:
        """Name the array of its scores."""
        return score_column(self.name)

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
