"""Tuning sets: the OOD rows that settings are chosen on, beside the ID rows they stand against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from latentood.detectors.base import Detector
from latentood.errors import ConfigError, DataError
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.choice.held_out import held_out
from latentood.evaluation.choice.synthetic import require_consistent, synthetic_rows
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.metrics.classes import LEAST_ROWS
from latentood.latents import HEAD, Budget, Latents
from latentood.latents.facts import Origin, SplitFacts
from latentood.latents.key import Unit
from latentood.latents.views import first_passes

ID_ROWS = "ID val rows"
"""The name of the ID side in a scenario: the rows of the val split once more."""

WEAK = (
    "weak proxy: the network was trained on these classes, so they may be easier, or harder, to "
    "tell from the others than real OOD"
)

Kind = Literal["split", "synthetic", "held-out classes"]


@dataclass(frozen=True, eq=False)
class TuningSet:
    """Some OOD rows to choose on."""

    name: str
    kind: Kind
    rows: Latents
    about: str = ""


@dataclass(frozen=True, eq=False)
class Scenario:
    """Rows to fit on, ID val rows and tuning sets, as splits that detectors are scored on."""

    fit: Latents
    val: Latents
    sets: tuple[TuningSet, ...]
    header: Origin = field(default_factory=Origin)

    @property
    def rows(self) -> dict[str, Latents]:
        """Name → rows of all its splits."""
        named = {self.fit.name: self.fit, self.val.name: self.val, ID_ROWS: self.val}
        return named | {one.name: one.rows for one in self.sets}

    @property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → its role here: a tuning set takes the place of far OOD."""
        roles = {self.fit.name: "fit", self.val.name: "val", ID_ROWS: "id"}
        return {name: SplitFacts(roles.get(name, "far")) for name in self.rows}  # type: ignore[arg-type]

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""
        return self.rows[split]

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row by its number."""
        return [str(row) for row in range(len(self[split]))]

    def each(self, change: Callable[[Latents], Latents]) -> Scenario:
        """Give the scenario with all its rows changed."""
        sets = tuple(replace(one, rows=change(one.rows)) for one in self.sets)
        return replace(self, fit=change(self.fit), val=change(self.val), sets=sets)

    def of_passes(self, passes: int | None) -> Scenario:
        """Give the same rows with their first passes alone; all of them for None."""
        return self if passes is None else self.each(lambda rows: first_passes(rows, passes))

    def require(self, detector: Detector) -> None:
        """Check that a detector can be fitted and scored here, before anything is computed.

        Raises:
            MissingInput: An array is not there.
            DetectorError: It reads arrays that a synthetic set cannot have.
        """
        needs = detector.needs()
        self.fit.require(needs.fit, who=detector.name)
        self.val.require((*needs.val, *needs.score), who=detector.name)
        for one in self.sets:
            if one.kind == "synthetic":
                require_consistent(detector, one.name)
            one.rows.require(needs.score, who=detector.name)


def scenarios(splits: ChoiceSplits, wish: Wish, budget: Budget) -> tuple[Scenario, ...]:
    """Open what a wish names: one scenario for all tuning sets that share their ID rows.

    Raises:
        ConfigError: Not exactly one fit and one val split, or no tuning set.
        DataError: Fewer than 20 rows, or a tuning set whose arrays are of another width.
    """
    fit = splits[splits.only("fit", "train")].within(budget)
    val = splits[splits.only("val", "val")].within(budget)
    sets = [
        TuningSet(name, "split", splits[name].within(budget)) for name in splits.of_role("tune")
    ]
    sets += [
        TuningSet(f"synthetic {how}", "synthetic", synthetic_rows(how, val, wish.seed), about)
        for how, about in _described(wish)
    ]
    made = [Scenario(fit, val, tuple(sets), splits.header)] if sets else []
    if wish.hold_out_classes:
        parts = held_out(fit, val, wish.hold_out_classes, wish.seed)
        classes = f"classes {', '.join(map(str, parts.classes))} of {val.name}; {WEAK}"
        one = TuningSet("held-out classes", "held-out classes", parts.ood, classes)
        made.append(Scenario(parts.fit, parts.val, (one,), splits.header))
    if not made:
        raise ConfigError(
            "tune: needs a tuning set, got none; give OOD that is reported nowhere a split of "
            "role tune, or corrupted ID such as latentood.data.Blurred of role tune, or add "
            "--synthetic mixup, or --hold-out-classes 2"
        )
    for scenario in made:
        _check(scenario, wish.unit)
    return tuple(made)


def _described(wish: Wish) -> Iterator[tuple[str, str]]:
    for how in wish.synthetic:
        yield how, "made of features of ID val rows, seen by no network"


def _check(scenario: Scenario, unit: Unit) -> None:
    """Refuse sets with too few rows to compare, and arrays that do not fit those of the fit rows.

    Raises:
        DataError: Names the set.
    """
    for name, rows in scenario.rows.items():
        count = len(rows.members(unit))
        if count < LEAST_ROWS:
            raise DataError(
                f"tune: {name}: must have ≥ {LEAST_ROWS} {unit}s to choose on, got {count}; "
                "extract more of them"
            )
        for key in set(rows.keys()) & set(scenario.fit.keys()) - {HEAD}:
            if "K" in key.axes or key.kind == "masks":
                continue
            width, expected = rows.shape(key)[1:], scenario.fit.shape(key)[1:]
            if width != expected:
                raise DataError(
                    f"tune: {name}: {key} must have rows of shape {expected} as in "
                    f"{scenario.fit.name!r}, got {width}; extract both with one model and pipeline"
                )
