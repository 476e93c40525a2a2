"""Searches: which settings of a space are tried, and in which order.

The default is tried first by all of them, as what everything else is compared with.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from latentood.errors import ConfigError
from latentood.evaluation.choice.space import Candidate, Point, Range, Space
from latentood.evaluation.choice.wish import SearchName, Wish

BATCH = 8
"""Settings of a detector that Optuna asks for together, since these share all work."""

_FRUITLESS = 100  # draws in a row of what was tried already, after which a space counts as empty


class Search(Protocol):
    """A search of the space of one detector."""

    def ask(self) -> Sequence[Candidate]:
        """Give what to try next; nothing at the end."""

    def tell(self, values: Mapping[Candidate, float | None]) -> None:
        """Take what came of it: the higher the better, None for what failed."""


class Listed:
    """A list of settings that is known from the start: the grid, or points drawn from the space."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._left = list(dict.fromkeys(candidates))

    def ask(self) -> Sequence[Candidate]:
        """Give all of it, once."""
        asked, self._left = self._left, []
        return asked

    def tell(self, values: Mapping[Candidate, float | None]) -> None:
        """Nothing depends on the values."""


def grid(space: Space, wish: Wish) -> Search:
    """Try every point."""
    return Listed([space.default, *space.candidates()])


def random(space: Space, wish: Wish) -> Search:
    """Try points that are drawn, each once, as many as are asked for or as there are."""
    generator = np.random.default_rng([wish.seed, zlib.crc32(space.name.encode())])
    chosen = dict.fromkeys([space.default])
    fruitless = 0
    while len(chosen) < wish.trials and fruitless < _FRUITLESS:
        before = len(chosen)
        chosen[space.draw(generator)] = None
        fruitless = 0 if len(chosen) > before else fruitless + 1
    return Listed(list(chosen))


class Optuna:
    """Optuna's tree-structured Parzen estimator, some points at a time.

    Points of one batch do not know of each other, so that they can be fitted together. What is
    asked for again is not tried again, but counts.
    """

    def __init__(self, space: Space, wish: Wish) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "--search optuna: must have the package optuna, and it is not installed; run pip "
                'install "latentood[optuna]", or choose --search random'
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = (wish.seed * 1_000_003 + zlib.crc32(space.name.encode())) % 2**32
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._space = space
        self._left = wish.trials
        self._open: list[tuple[Any, Candidate]] = []
        self._known: dict[Candidate, float | None] = {}

    def ask(self) -> Sequence[Candidate]:
        """Give the next batch, with the default before the first."""
        lead = [] if self._known else [self._space.default]
        count = min(BATCH, self._left - len(lead))
        self._left -= count + len(lead)
        trials = [self._study.ask() for _ in range(max(count, 0))]
        self._open = [(trial, self._space.candidate(self._point(trial))) for trial in trials]
        return list(dict.fromkeys([*lead, *(candidate for _, candidate in self._open)]))

    def tell(self, values: Mapping[Candidate, float | None]) -> None:
        """Pass the values on."""
        self._known |= values
        for trial, candidate in self._open:
            value = self._known[candidate]
            self._study.tell(trial, value, state=self._failed if value is None else None)

    def _point(self, trial: Any) -> Point:
        point: Point = {}
        for name, values in self._space.grid.items():
            if isinstance(values, Range):
                suggest = trial.suggest_int if values.whole else trial.suggest_float
                point[name] = suggest(name, values.low, values.high, log=values.logarithmic)
            else:  # by their places, since Optuna takes only some types
                point[name] = values[trial.suggest_categorical(name, list(range(len(values))))]
        return point


SEARCHES: Mapping[SearchName, Callable[[Space, Wish], Search]] = {
    "grid": grid,
    "random": random,
    "optuna": Optuna,
}


def run(
    spaces: Sequence[Space],
    wish: Wish,
    evaluate: Callable[[Sequence[Candidate]], Mapping[Candidate, float | None]],
) -> None:
    """Search all spaces side by side: what is asked for in one round is evaluated together.

    Args:
        spaces: One for each detector.
        wish: Which search, and how long.
        evaluate: Candidate → value of each, the higher the better, None for what failed; called
            with candidates that were not evaluated before.
    """
    searches = [SEARCHES[wish.search](space, wish) for space in spaces]
    known: dict[Candidate, float | None] = {}
    while True:
        asked = [list(search.ask()) for search in searches]
        every = [one for candidates in asked for one in candidates]
        if not every:
            return
        fresh = [one for one in dict.fromkeys(every) if one not in known]
        if fresh:
            known |= evaluate(fresh)
        for search, candidates in zip(searches, asked, strict=True):
            if candidates:
                search.tell({one: known[one] for one in candidates})
