"""The contract of a detector: hyperparameters, what it reads, fit, score.

A detector is a frozen set of hyperparameters. ``fit`` turns rows into a state of tensors; ``score``
is a pure function of (state, rows). No fitted flag, no loop over chunks, no device move and no file
access happens inside one: :class:`Fitted` does all of that for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs
from torch import Tensor

from latentood.errors import DetectorError, MissingInput
from latentood.latents import PENULTIMATE, Key, Latents, Statistic
from latentood.latents.memo import memory_of
from latentood.plugins import Plugin, hyper, plugin

State = dict[str, Tensor]
"""The result of fitting: named tensors, nothing else."""

AwkwardRows = Literal[
    "one row", "few rows", "one class", "absent class", "constant columns", "negative features"
]
"""Fit rows that not every detector can work with: a single one, fewer than dimensions, of one
class alone, none of some class, with columns that are constant, with features below 0."""

Source = Literal["features", "mc.entropy"]
"""What of a layer is read: its features, or their entropies over stochastic passes."""

Ridge = Annotated[
    float,
    Field(
        ge=0,
        description="share of trace(Σ)/D added to the diagonal of the covariance",
        json_schema_extra={"tries": [1e-6, 1e-4, 1e-2]},
    ),
]
RIDGE = 1e-6
Share = Annotated[float, Field(gt=0, le=1, description="share of the fit rows kept as the bank")]
Seed = Annotated[int, Field(ge=0, description="which rows a share keeps")]


@dataclass(frozen=True)
class Needs:
    """The keys a detector reads: of the fit split, of the ID val split, of rows to score."""

    score: tuple[str, ...]
    fit: tuple[str, ...] = ()
    val: tuple[str, ...] = ()


@plugin
class Detector(Plugin, ABC):
    """One way to turn rows of latents into scores, higher = more OOD."""

    kind = ""
    refusal = DetectorError

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
    of_head: ClassVar[str] = ""
    """The kind of array that it reads where a network has a head that gives it; the
    hyperparameter ``head`` names that head."""
    instead_of_head: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters that say how to read logits where no head is meant."""
    reads_bank: ClassVar[bool] = False
    """Whether scoring goes through all fit rows, so that chunks should have many rows."""
    cannot_fit_on: ClassVar[tuple[AwkwardRows, ...]] = ()
    """Fit rows on which fitting, or scoring after it, is an error by its mathematics."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Keys that scoring reads."""
    fit_reads: ClassVar[tuple[str, ...]] = ()
    """Keys that fitting reads of the fit split."""
    val_reads: ClassVar[tuple[str, ...]] = ()
    """Keys that fitting reads of the ID val split."""

    @classmethod
    def of_schema_1(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Spell out, of a file of schema 1, what it left to defaults that have changed since."""
        return given

    def needs(self) -> Needs:
        """Declare the keys that fitting and scoring read."""
        return Needs(self.reads, self.fit_reads, self.val_reads)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Declare statistics of the fit split that fitting uses; detectors share one read."""
        return ()

    def memory(self, train: Latents) -> int:
        """Estimate from shapes how many bytes fitting takes at its peak, beside the rows it reads.

        A fit that takes more than is free is refused before it begins. By default this is what the
        statistics declare; a detector whose own work or state takes more adds it.
        """
        return sum(memory_of(statistic, train) for statistic in dict.fromkeys(self.statistics()))

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
        """Report facts of a fitted state, such as a rank."""
        return {}

    def measure(self, state: State, ready: Callable[[], Any]) -> dict[str, Any]:
        """Report what a fit can only know by trying, such as the recall of an index.

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
            rows: N rows with the keys of ``needs().score``, their ``hashes`` if there are any, and
                no others.

        Returns:
            (N,) float64, higher = more OOD.
        """


@plugin
class FeatureDetector(Detector):
    """A detector that reads the features of one layer, or their entropies, and may read any layer.

    ``reads``, ``fit_reads`` and ``val_reads`` name what it reads beside them.

    The layer may also be written as a key: ``layer="mc.entropy/layer3"`` stands for
    ``layer="layer3", source="mc.entropy"``.
    """

    per_layer = True
    asks: ClassVar[tuple[Callable[[str], Statistic[Any]], ...]] = ()
    """Statistics of that array over the fit split that fitting uses."""
    layer: str = hyper(PENULTIMATE, "layer whose features are read; mc.entropy/<layer> works too")
    source: Source = hyper("features", "whether features or their entropies over passes are read")

    @model_validator(mode="before")
    @classmethod
    def _split_key(cls, given: ArgsKwargs) -> ArgsKwargs:
        values = dict(given.kwargs or {})
        if isinstance(layer := values.get("layer"), str) and "/" in layer:
            key = Key.parse(layer)
            values |= {"layer": key.layer, "source": key.kind}
        return ArgsKwargs(given.args, values)

    @property
    def key(self) -> Key:
        """Name the array that is read."""
        return Key(self.source, self.layer)

    def hyperparameters(self) -> dict[str, Any]:
        """Give the hyperparameters by name; the source is part of the layer, as results name it."""
        values = super().hyperparameters() | {"layer": self.key.source}
        del values["source"]
        return values

    def needs(self) -> Needs:
        """Declare features, and what is read beside them."""
        val = (self.key, *self.val_reads) if self.val_reads else ()
        return Needs((self.key, *self.reads), (self.key, *self.fit_reads), val)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Declare ``asks`` of the features."""
        return tuple(ask(self.key) for ask in self.asks)
