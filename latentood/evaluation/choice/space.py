"""What may be chosen of a detector: its settings, its default, and the points between."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentood.detectors.base import Detector
from latentood.detectors.registry import detector
from latentood.errors import ConfigError, DetectorError
from latentood.evaluation.choice.passes import passes_kept, require_each_pass
from latentood.evaluation.choice.tuning_sets import Scenario
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.comparison import Request, Unscored
from latentood.evaluation.inputs.request import combinations, expand
from latentood.latents import Key
from latentood.latents.splits import MemberSplits

PASSES = "passes"
"""What the number of passes is called among settings; no hyperparameter may have this name."""

_RANGE = re.compile(r"^(?P<name>[^=]+)=\s*(?P<low>[-+.\deE]+?)\.\.(?P<high>[-+.\deE]+)\s*$")
_WIDE = 10  # from this ratio of its ends a range is drawn from on a logarithmic scale

Point = dict[str, Any]
"""Setting → value."""


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers count."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def logarithmic(self) -> bool:
        """Whether equal ratios count as equal steps."""
        return self.low > 0 and self.high / self.low >= _WIDE

    def at(self, share: float) -> float:
        """Give the number at a share of the way, from 0 to below 1."""
        low, high = (self.low, self.high + 1) if self.whole else (self.low, self.high)
        value = low * (high / low) ** share if self.logarithmic else low + (high - low) * share
        return min(int(value), int(self.high)) if self.whole else value


@dataclass(frozen=True)
class Candidate:
    """A detector with its settings, and how many passes it sees: None for all of them."""

    detector: Detector
    passes: int | None = None

    @property
    def settings(self) -> Point:
        """Its hyperparameters, and the number of passes where it is not all of them."""
        own = self.detector.hyperparameters()
        return own if self.passes is None else own | {PASSES: self.passes}

    @property
    def request(self) -> Request:
        """Describe it as results do."""
        of = Request.of(self.detector)
        return Request(of.detector, of.layer, self.settings)

    def distance(self, other: Candidate) -> int:
        """Count the settings that differ."""
        mine, others = self.settings, other.settings
        return sum(mine.get(name) != others.get(name) for name in mine.keys() | others.keys())


@dataclass(frozen=True)
class Space:
    """The settings of one detector that a search may choose from."""

    default: Candidate
    grid: Mapping[str, Sequence[Any] | Range]
    all_passes: int = 0  # T of the cache

    @property
    def name(self) -> str:
        """The name of the detector."""
        return self.default.detector.name

    def candidate(self, point: Point) -> Candidate:
        """Build the detector of a point."""
        values = dict(point)
        passes = values.pop(PASSES, None)
        built = detector(self.name, **values)
        return Candidate(built, None if passes == self.all_passes else passes)

    def candidates(self) -> Iterator[Candidate]:
        """Give every point of a space without ranges.

        Raises:
            ConfigError: There is a range.
        """
        for name, values in self.grid.items():
            if isinstance(values, Range):
                raise ConfigError(
                    f"--set {self.name}.{name}: must list its values for a grid, got the range "
                    f"{values.low}..{values.high}; add --search random or --search optuna"
                )
        for values in itertools.product(*self.grid.values()):  # type: ignore[arg-type]
            yield self.candidate(dict(zip(self.grid, values, strict=True)))

    def draw(self, generator: np.random.Generator) -> Candidate:
        """Draw a point: each setting on its own, uniformly."""
        point: Point = {}
        for name, values in self.grid.items():
            share = generator.random()
            if isinstance(values, Range):
                point[name] = values.at(share)
            else:
                point[name] = values[int(share * len(values))]
        return self.candidate(point)

    @property
    def has_choice(self) -> bool:
        """Whether there is anything beside the default."""
        only = {
            name: values[0] for name, values in self.grid.items() if not isinstance(values, Range)
        }
        return self.size > 1 or self.candidate(only) != self.default

    @property
    def size(self) -> float:
        """How many points there are."""
        return math.prod(
            math.inf if isinstance(values, Range) and not values.whole else _count(values)
            for values in self.grid.values()
        )


def _count(values: Sequence[Any] | Range) -> float:
    return values.high - values.low + 1 if isinstance(values, Range) else len(values)


def spaces(made: Sequence[Scenario], wish: Wish) -> tuple[list[Space], list[Unscored]]:
    """Give the space of every detector that a wish names, and what ``all`` had to leave out.

    Raises:
        UnknownName: No such detector, layer or hyperparameter.
        MissingInput: A detector that is named lacks an array it reads.
        ConfigError: No detector has anything to choose from. One that is named and has only its
            default competes with others as it is.
        DetectorError: It cannot be scored on a tuning set, or a value is outside its range.
    """
    ranges, plain = _ranges(wish.settings)
    wanted = expand(
        wish.detectors,
        layers=wish.layers,
        settings=plain,
        splits=MemberSplits(made[0], wish.unit),
        scores=False,
        tries=True,
    )
    ready, skipped = [], list(wanted.skipped)
    for name, grid in wanted.grids.items():
        try:
            space = _space(name, grid | ranges.get(name, {}), made, wish)
        except (ConfigError, DetectorError) as error:
            if name in wanted.named:
                raise
            skipped.append(Unscored.of(Request(name, "", {}), error))
            continue
        if space.has_choice or name in wanted.named:
            ready.append(space)
        else:
            skipped.append(Unscored(Request(name, "", {}), _no_choice(name)))
    if not any(space.has_choice for space in ready):
        reasons = [*(_no_choice(space.name) for space in ready), *(one.reason for one in skipped)]
        raise ConfigError(f"tune: no detector can be tuned; the first: {reasons[0]}")
    return ready, skipped


def _no_choice(name: str) -> str:
    return (
        f"{name}: must have settings to choose from, got its default alone; give values with "
        f"--set {name}.HYPERPARAMETER=…, or layers with --layers"
    )


def _space(name: str, grid: Mapping[str, Any], made: Sequence[Scenario], wish: Wish) -> Space:
    ends = {n: [v.low, v.high] if isinstance(v, Range) else v for n, v in grid.items()}
    every = list(combinations(name, ends))
    members = [one.each(lambda rows: rows.members(wish.unit)) for one in made]
    for candidate in every:
        for scenario in members:
            scenario.require(candidate)
    default = _default(name, every, members)
    whole: dict[str, Sequence[Any] | Range] = dict(grid)
    reads = [key for key in map(Key.parse, every[0].needs().score) if key.of_passes]
    if wish.passes and reads:
        for candidate in every:
            require_each_pass(candidate, made[0].fit)
        whole[PASSES] = wish.passes
    return Space(Candidate(default), whole, passes_kept(made[0].fit) if reads else 0)


def _default(name: str, every: Sequence[Detector], members: Sequence[Scenario]) -> Detector:
    """Give the detector as it is without any wish, or where its layer is not there the first."""
    plain = detector(name)
    try:
        for scenario in members:
            scenario.require(plain)
    except DetectorError:
        return every[0]
    return plain


def _ranges(settings: Iterable[str]) -> tuple[dict[str, dict[str, Range]], list[str]]:
    """Separate ranges; in the texts their ends stand in their place, to be checked as values."""
    ranges: dict[str, dict[str, Range]] = {}
    plain = []
    for setting in settings:
        match = _RANGE.match(setting)
        if match is None:
            plain.append(setting)
            continue
        low, high = (_number(setting, match[end]) for end in ("low", "high"))
        if not low < high:
            raise ConfigError(f"--set {setting}: must be LOW..HIGH with LOW < HIGH; swap them")
        name, _, hyperparameter = match["name"].strip().partition(".")
        ranges.setdefault(name, {})[hyperparameter] = Range(low, high)
        plain.append(f"{match['name']}={low},{high}")
    return ranges, plain


def _number(setting: str, text: str) -> float:
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise ConfigError(
            f"--set {setting}: must be a range of two numbers, e.g. 5..500, got {text!r}"
        ) from None
