"""The whole choice: open what may be read, search, pick, and write down what came of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from latentood.device import default_memory
from latentood.evaluation.choice import search
from latentood.evaluation.choice.gain import Gain, gain
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.choice.picking import best_of, done, optimism_of, order_of
from latentood.evaluation.choice.space import PASSES, Candidate, Space, spaces
from latentood.evaluation.choice.trials import Bench, Trial
from latentood.evaluation.choice.tuning_sets import Scenario, scenarios
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.comparison import Unscored
from latentood.evaluation.scoring import Progress
from latentood.latents import Budget
from latentood.latents.facts import plain
from latentood.latents.splits import Splits
from latentood.plugins import hyperparameters_of

FORMAT = 1
"""Version of what :func:`choose` gives."""


def choose(
    splits: Splits,
    wish: Wish,
    *,
    device: torch.device | str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Choose settings of detectors on ID val rows against tuning sets.

    No split of role id, near, far or mixed is opened. Detectors that calibrate on ID val rows do
    so on the rows that they are then compared on here.

    Returns:
        The choice as JSON values: ``request``, ``cache``, ``sets``, ``detectors`` (default and
        chosen settings with their values, and the gain), ``best``, ``nested``, ``trials``,
        ``skipped``. Equal requests on equal caches give equal documents.

    Raises:
        ForbiddenSplit: A split that is reported was asked for.
        LatentOODError: As :func:`scenarios` and :func:`spaces`; or all settings of a detector
            that was named failed.
    """
    readable = ChoiceSplits(splits)
    budget = Budget(default_memory() if memory is None else memory)
    made = scenarios(readable, wish, budget)
    every, skipped = spaces(made, wish)
    bench = Bench(made, wish, device=device, memory=memory, progress=progress)
    search.run(every, wish, bench.evaluate)
    of_detector = {
        space.name: [one for one in bench.trials.values() if _of(one, space)] for space in every
    }
    defaults = {space.name: space.default for space in every}
    return plain(  # type: ignore[no-any-return]
        {
            "format": FORMAT,
            "request": wish.as_json(),
            "cache": _cache(readable, made),
            "sets": [_set(one, wish) for scenario in made for one in scenario.sets],
            "detectors": {
                space.name: _chosen(space, of_detector[space.name], bench, wish) for space in every
            },
            **_overall(bench, defaults, wish),
            "trials": [one.as_json() for one in bench.trials.values()],
            "skipped": [_skipped(one) for one in skipped],
        }
    )


def arguments_of(candidate: Candidate) -> list[str]:
    """Give what ``--set`` must be given for a detector, where it is not its default."""
    defaults = type(candidate.detector)().hyperparameters()
    own = candidate.detector.hyperparameters()
    known = {one.name: one for one in hyperparameters_of(type(candidate.detector))}
    return [
        f"{candidate.detector.name}.{name}={_text(value, known[name].is_sequence)}"
        for name, value in own.items()
        if value != defaults[name]
    ]


def command(verb: str, candidate: Candidate, store: str, unit: str) -> str:
    """Give the command line that uses a choice, on all passes."""
    flag = "--detectors" if verb == "score" else "--detector"
    words = ["latentood", verb, store, flag, candidate.detector.name]
    for text in arguments_of(candidate):
        words += ["--set", text]
    if unit != "image":
        words += ["--unit", unit]
    return shlex.join(words)


def _text(value: Any, is_sequence: bool) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text}" if not is_sequence or text.startswith("[") else f"[{text}]"


def _of(trial: Trial, space: Space) -> bool:
    return trial.candidate.detector.name == space.name


def _chosen(space: Space, trials: Sequence[Trial], bench: Bench, wish: Wish) -> dict[str, Any]:
    kept = order_of(done(trials, space.name), {space.name: space.default})
    default = bench.trials[space.default]
    chosen = kept[_best(kept, wish)]
    both = default.values and chosen is not default
    return {
        "default": _described(default),
        "chosen": _described(chosen),
        "gain": asdict(_gain(default, chosen, bench, wish)) if both else None,
        "tried": len(trials),
        "failed": len(trials) - len(kept),
        "nested": optimism_of(kept, bench.sides, wish).as_json() if wish.nested else None,
    }


def _gain(default: Trial, chosen: Trial, bench: Bench, wish: Wish) -> Gain:
    return gain(
        default.scores,
        chosen.scores,
        wish.criterion,
        ids={name: one.scenario for name, one in bench.sides.items()},
        independent=all(one.independent for one in bench.sides.values()),
    )


def _best(trials: Sequence[Trial], wish: Wish) -> int:
    import numpy as np

    return best_of(wish.sign * np.array([list(one.values.values()) for one in trials]))


def _described(trial: Trial) -> dict[str, Any]:
    candidate = trial.candidate
    return {
        "settings": candidate.detector.hyperparameters(),
        PASSES: candidate.passes,
        "arguments": arguments_of(candidate),
        "value": trial.value,
        "values": dict(trial.values),
        "reason": trial.reason,
    }


def _overall(bench: Bench, defaults: Mapping[str, Candidate], wish: Wish) -> dict[str, Any]:
    """Say which detector is the best of all, and how optimistic it is to say so."""
    kept = order_of(done(list(bench.trials.values()), "tune"), defaults)
    nested = optimism_of(kept, bench.sides, wish).as_json() if wish.nested else None
    return {"best": kept[_best(kept, wish)].candidate.detector.name, "nested": nested}


def _cache(splits: ChoiceSplits, made: Sequence[Scenario]) -> dict[str, Any]:
    """Name the run and the data that a choice was made on."""
    roles = ("fit", "val", "tune")
    return {
        "digest": splits.header.digest,
        "weights": splits.header.fingerprint.get("weights"),
        "data": {
            name: {"role": facts.role, "fingerprint": facts.data.get("fingerprint")}
            for name, facts in splits.splits.items()
            if facts.role in roles
        },
        "rows": {"fit": len(made[0].fit), "val": len(made[0].val)},
    }


def _set(one: Any, wish: Wish) -> dict[str, Any]:
    rows = len(one.rows.members(wish.unit))
    return {"name": one.name, "kind": one.kind, "rows": rows, "about": one.about}


def _skipped(one: Unscored) -> dict[str, str]:
    return {"detector": one.request.detector, "reason": one.reason}
