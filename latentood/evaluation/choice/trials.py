"""Trials: candidates scored on all tuning sets, and what the criterion says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentood.evaluation import metrics
from latentood.evaluation.choice.space import Candidate
from latentood.evaluation.choice.tuning_sets import Scenario
from latentood.evaluation.choice.wish import Criterion, Wish
from latentood.evaluation.comparison import Comparison, Request, Result, ScoredSplit
from latentood.evaluation.metrics import Array
from latentood.evaluation.scoring import Progress, score_all
from latentood.latents.facts import ID, OOD


@dataclass(frozen=True, eq=False)
class Rows:
    """What the rows of one side are: those that count, and of which image each is."""

    counted: NDArray[np.bool_]  # (M,)
    image: NDArray[np.int64]  # of those that count
    images: int

    @classmethod
    def of(cls, split: ScoredSplit, state: int) -> Rows:
        """Take those that are ID (0), or OOD (1)."""
        counted = split.truth.ood == state
        return cls(counted, split.truth.image[counted], split.truth.images)


@dataclass(frozen=True, eq=False)
class Sides:
    """ID val rows and one tuning set, as they are compared."""

    ids: Rows
    oods: Rows
    scenario: int  # sets of one scenario have their ID rows in common

    @property
    def independent(self) -> bool:
        """Whether rows are independent of each other: no two of them are of one image."""
        return all(side.images == side.counted.size for side in (self.ids, self.oods))


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate that was tried."""

    candidate: Candidate
    scores: Mapping[str, tuple[Array, Array]]  # tuning set → ID and OOD scores, float64
    values: Mapping[str, float]  # tuning set → criterion
    reason: str = ""  # why it failed; there are no scores then

    @property
    def value(self) -> float | None:
        """The mean over the tuning sets, each with equal weight."""
        return float(np.mean(list(self.values.values()))) if self.values else None

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values, without scores."""
        request = self.candidate.request
        return {
            "detector": request.detector,
            "layer": request.layer,
            "settings": dict(request.hyperparameters),
            "value": self.value,
            "values": dict(self.values),
            "reason": self.reason,
        }


class Bench:
    """Scores candidates on the tuning sets of all scenarios, and keeps the trials.

    The scores of all trials stay in memory: 8 bytes for each trial and row of the tuning sets and
    of the ID side.
    """

    def __init__(
        self,
        made: Sequence[Scenario],
        wish: Wish,
        *,
        device: torch.device | str | None = None,
        memory: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.trials: dict[Candidate, Trial] = {}
        self.sides: dict[str, Sides] = {}
        self._scenarios = made
        self._of_passes: dict[tuple[int, int | None], Scenario] = {}
        self._wish = wish
        self._options: dict[str, Any] = {"device": device, "memory": memory, "progress": progress}

    def evaluate(self, candidates: Sequence[Candidate]) -> dict[Candidate, float | None]:
        """Fit and score candidates; those that see the same passes share all work.

        Returns:
            Candidate → value, the higher the better, or None where it failed.
        """
        scores: dict[Candidate, dict[str, tuple[Array, Array]]] = {one: {} for one in candidates}
        reasons: dict[Candidate, str] = {}
        for number in range(len(self._scenarios)):
            for passes in dict.fromkeys(one.passes for one in candidates):
                same = [one for one in candidates if one.passes == passes and one not in reasons]
                if same:
                    self._score(number, passes, same, scores, reasons)
        for one in candidates:
            own = {} if one in reasons else scores[one]
            values = {name: measured(self._wish.criterion, *pair) for name, pair in own.items()}
            self.trials[one] = Trial(one, own, values, reasons.get(one, ""))
        return {one: self._signed(self.trials[one].value) for one in candidates}

    def _score(
        self,
        number: int,
        passes: int | None,
        candidates: Sequence[Candidate],
        scores: Mapping[Candidate, dict[str, tuple[Array, Array]]],
        reasons: dict[Candidate, str],
    ) -> None:
        comparison = score_all(
            self._scenario(number, passes),
            [one.detector for one in candidates],
            allow_overlap=True,  # the ID side holds the rows of the val split once more
            unit=self._wish.unit,
            measured=_scores_alone,
            **self._options,
        )
        of_request = {_key(Request.of(one.detector)): one for one in candidates}
        for failure in comparison.failed:
            reasons[of_request[_key(failure.request)]] = failure.reason
        self._note_sides(comparison, number)
        id_split, *oods = comparison.splits
        ids = Rows.of(id_split, ID).counted
        for result in comparison.results:
            own = scores[of_request[_key(result.request)]]
            known = result.scores[id_split.name][ids]
            for split in oods:
                own[split.name] = known, result.scores[split.name][Rows.of(split, OOD).counted]

    def _scenario(self, number: int, passes: int | None) -> Scenario:
        """Give the same rows each time, so that their statistics are computed once."""
        key = number, passes
        if key not in self._of_passes:
            self._of_passes[key] = self._scenarios[number].of_passes(passes)
        return self._of_passes[key]

    def _note_sides(self, comparison: Comparison, number: int) -> None:
        id_split, *oods = comparison.splits
        for split in oods:
            sides = Sides(Rows.of(id_split, ID), Rows.of(split, OOD), number)
            self.sides.setdefault(split.name, sides)

    def _signed(self, value: float | None) -> float | None:
        return None if value is None else self._wish.sign * value


def measured(criterion: Criterion, ids: Array, oods: Array) -> float:
    """Give the criterion of one tuning set, in [0, 1]."""
    return float(getattr(metrics, criterion)(ids, oods))


def _scores_alone(
    request: Request,
    splits: Sequence[ScoredSplit],
    scores: Mapping[str, Array],
    *,
    fit_seconds: float,
    score_seconds: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> Result:
    """Leave out metrics and intervals that no search looks at."""
    return Result(request, scores, fit_seconds, score_seconds, rows=(), averages={})


def _key(request: Request) -> str:
    return repr(request)
