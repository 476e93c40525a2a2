"""Which score taps run on which split, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.families.score_taps.base import SCORE_TAPS, Network, ScoreTap
from latentood.errors import ConfigError, IncompleteSplit, UnknownName
from latentood.latents.facts import canonical
from latentood.pipeline.schema import Pipeline
from latentood.store.cache import open_cache
from latentood.store.schema import ArraySpec, SplitSpec


@dataclass(frozen=True)
class Schedule:
    """The score taps of a pipeline: which run on which split, and in which order."""

    network: Network
    taps: tuple[ScoreTap, ...] = ()  # settled and checked
    fit: str | None = None  # the split whose rows some taps read, extracted first; else None

    @classmethod
    def of(cls, pipeline: Pipeline, network: Network) -> Schedule:
        """Build the taps a pipeline names.

        Raises:
            UnknownName: There is no such tap or hyperparameter.
            ConfigError: A value is outside its range, a tap is named twice, or a tap reads the fit
                split and there is not exactly one.
            ModelError: A tap does not fit the model.
        """
        taps: dict[str, ScoreTap] = {}
        for wanted in pipeline.scores:
            tap = SCORE_TAPS.build(wanted.name, **wanted.args)
            if tap.name in taps:
                raise ConfigError(
                    f"scores: each tap must be named once, got {tap.name!r} twice; use a pipeline "
                    "and a store of its own for other hyperparameters"
                )
            taps[tap.name] = tap
        settled = tuple(tap.settle(network) for tap in taps.values())
        return cls(network, settled, _fit_split(pipeline, settled))

    def on(self, split: str) -> tuple[ScoreTap, ...]:
        """List the taps whose columns a split gets.

        On the fit split, a tap that reads it gives the column of its companion instead of scores.
        """
        if split != self.fit:
            return self.taps
        companions = (tap.companion() for tap in self.taps)
        return (
            *(tap for tap in self.taps if not tap.needs_fit),
            *(tap for tap in companions if tap is not None),
        )

    def arrays(self, split: str) -> list[ArraySpec]:
        """Lay out the columns of a split, each with all that it follows from beside the model."""
        return [
            ArraySpec(tap.column, (), "float64", how=canonical(self._how(tap)))
            for tap in self.on(split)
        ]

    def order(self, splits: Iterable[str]) -> list[str]:
        """Put the fit split first where a tap reads it."""
        return sorted(splits, key=lambda name: name != self.fit)

    def require_fit(self, extracted: Iterable[str], store: Path, *, overwrite: bool) -> None:
        """Check that the rows that taps read will be there once ``extracted`` splits are.

        Raises:
            IncompleteSplit: The fit split is neither being extracted nor complete in the store.
        """
        if self.fit is None or self.fit in extracted:
            return
        needed = {key for tap in self.taps for key in tap.reads()}
        lacking = sorted(needed - (set() if overwrite else self._fit_keys(store)))
        if lacking:
            raise IncompleteSplit(
                f"{store}: to compute {_readers(self.taps)}, split {self.fit!r} (role fit) must "
                f"have all rows of {', '.join(sorted(needed))}, got none of {', '.join(lacking)}; "
                f"run latentood extract with --split {self.fit} first, or without --split"
            )

    def _fit_keys(self, store: Path) -> set[str]:
        """Name the arrays of the fit split that are complete in the store."""
        try:
            return set(open_cache(store)[self.fit or ""].keys()) if store.exists() else set()
        except (UnknownName, IncompleteSplit):
            return set()

    def _how(self, tap: ScoreTap) -> dict[str, Any]:
        read = {"fit": self.fit} if tap.needs_fit else {}
        return {"hyperparameters": tap.hyperparameters(), **read}


@dataclass(frozen=True)
class Scorer:
    """Taps with their states: a function from a batch to columns."""

    network: Network
    states: Mapping[ScoreTap, Any]

    def run(self, inputs: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Score inputs (B, …) on the device of the model: key → (B,) float64.

        Where one of the logits (B, C) of the same rows is not finite, no score is either.
        """
        if self.states and not bool(torch.isfinite(logits).all()):
            missing = torch.full((len(inputs),), torch.nan, dtype=torch.float64)
            return {tap.column: missing for tap in self.states}
        return {t.column: t.score(self.network, inputs, s) for t, s in self.states.items()}


@dataclass(frozen=True)
class Preparation:
    """The states of taps in one run, each computed once, when it is first needed."""

    scores: Schedule
    store: Path
    _states: dict[ScoreTap, Any] = field(default_factory=dict)

    def scorer(self, spec: SplitSpec) -> Scorer:
        """Prepare the taps that give columns of a split."""
        wanted = {array.key for array in spec.arrays}
        taps = [tap for tap in self.scores.on(spec.name) if tap.column in wanted]
        missing = [tap for tap in taps if tap.needs_fit and tap not in self._states]
        if missing and self.scores.fit is not None:
            fit = open_cache(self.store)[self.scores.fit]
            for tap in missing:
                fit.require(tap.reads(), who=tap.who)
                self._states[tap] = tap.prepare(self.scores.network, fit)
        return Scorer(self.scores.network, {tap: self._states.get(tap) for tap in taps})


def _fit_split(pipeline: Pipeline, taps: Iterable[ScoreTap]) -> str | None:
    """Name the split of role fit, if a tap reads it."""
    readers = _readers(taps)
    if not readers:
        return None
    fit = [name for name, split in pipeline.splits.items() if split.role == "fit"]
    if len(fit) != 1:
        roles = ", ".join(f"{name!r} ({split.role})" for name, split in pipeline.splits.items())
        raise ConfigError(
            f"scores: {readers} must have exactly one split of role fit, got {roles}; change "
            "splits:, e.g. train: {role: fit, target: ...}"
        )
    return fit[0]


def _readers(taps: Iterable[ScoreTap]) -> str:
    return ", ".join(tap.name for tap in taps if tap.needs_fit)
