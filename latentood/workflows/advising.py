"""Say from ID rows alone which detectors are likely to work."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from latentood.detectors.advice.advice import Advice, advise_on
from latentood.detectors.advice.measures import layers_of
from latentood.detectors.registry import registry
from latentood.device import parse_memory, resolve_device
from latentood.errors import ForbiddenSplit, unknown
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.inputs.roles import Roles
from latentood.latents import Latents
from latentood.latents.facts import FITTED_ROLES, SplitFacts
from latentood.latents.key import Unit
from latentood.latents.rows import Budget
from latentood.latents.splits import Splits
from latentood.workflows.given import splits_of
from latentood.workflows.scoring import unit_of

_NO_SYNTHETIC = ("monte_carlo", "latent_entropy")
"""Families of detectors that cannot be tuned on features alone."""


@dataclass(frozen=True)
class FitSplits(ChoiceSplits):
    """All splits by name, of which only those of role fit and val can be opened.

    Advice gets its rows from here and from nowhere else: neither what is reported nor OOD that
    settings are chosen on can be in it.
    """

    def _require(self, split: str) -> None:
        facts = self.splits.get(split)
        if facts is not None and facts.role not in FITTED_ROLES:
            raise ForbiddenSplit(
                f"advise: must read splits of role {' and '.join(FITTED_ROLES)} alone, but "
                f"{split!r} of role {facts.role} was asked for; to score it use latentood score"
            )
        super()._require(split)


def advise(
    source: Splits | Path | str,
    *,
    layers: str | Sequence[str] | None = None,
    unit: Unit | None = None,
    device: str | None = None,
    memory: int | str | None = None,
) -> Advice:
    """Say which families of detectors are likely to work, and why: a heuristic.

    ID rows are measured (collapse of classes, spectrum, class separation, norms, activations,
    predictions, spread over passes), and rules go from these measures to families. Splits of role
    ``fit`` are read, and ``val`` to confirm; no other can be opened.

    Args:
        source: A cache, or its folder.
        layers: Layers or globs; default: all that were kept.
        unit: What a row is: ``image``, ``cell`` or ``box``; default: that of the pipeline of the
            cache, else ``image``.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read.

    Returns:
        Measures, verdicts and what they follow from, for the predictions and for each layer. What
        cannot be measured says why.

    Raises:
        ConfigError: The cache has no split of role ``fit``, or two.
        UnknownName: A glob matches no layer.
        DataError: There are no rows.
    """
    splits = FitSplits(splits_of(source))
    roles = Roles.of(splits, scores=False)
    unit = unit or unit_of(splits)
    limit = parse_memory(memory) if isinstance(memory, str) else memory
    budget = None if limit is None else Budget(limit)
    where = resolve_device(device or "auto")

    def rows(name: str) -> Latents:
        members = splits[name].members(unit).to(where)
        return members if budget is None else members.within(budget)

    fit, val = rows(str(roles.fit)), None if roles.val is None else rows(roles.val)
    advice = advise_on(fit, val, _chosen(layers, fit))
    store = str(source) if isinstance(source, Path | str) else "STORE"
    return replace(advice, commands=_commands(advice, splits.splits, store, unit))


def _chosen(layers: str | Sequence[str] | None, fit: Latents) -> list[str]:
    """Name the layers that globs match."""
    names = layers_of(fit, ("features", "mc.entropy"))
    if layers is None:
        return names
    patterns = layers.split(",") if isinstance(layers, str) else layers
    globs = [one.strip() for one in patterns if one.strip()]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise unknown("cached layer", glob, names)
    return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]


def _commands(
    advice: Advice, splits: Mapping[str, SplitFacts], store: str, unit: Unit
) -> tuple[str, ...]:
    """Write the command lines that compare and tune what is likely to work."""
    roles = {facts.role for facts in splits.values()}
    names = advice.detectors
    if not names:
        return ()
    per_unit = [] if unit == "image" else ["--unit", unit]
    score = ["latentood", "score", store, "--detectors", ",".join(names)]
    if any(registry()[name].per_layer for name in names) and advice.layers:
        score += ["--layers", ",".join(advice.layers)]
    commands = [shlex.join([*score, *per_unit])]
    synthetic = [] if "tune" in roles else ["--synthetic", "mixup"]
    tuned = [one for one in names if not synthetic or registry()[one].family not in _NO_SYNTHETIC]
    if "val" in roles and tuned:
        tune = ["latentood", "tune", store, "--detectors", ",".join(tuned)]
        commands.append(shlex.join([*tune, *synthetic, *per_unit]))
    return tuple(commands)
