"""What to score: from names, layers and settings to detectors."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml

from latentood.detectors.base import Detector
from latentood.detectors.registry import detector, registry
from latentood.errors import ConfigError, DetectorError, MissingInput, unknown
from latentood.evaluation.comparison import Request, Unscored
from latentood.evaluation.inputs.roles import Roles, require_inputs
from latentood.latents import Key
from latentood.latents.splits import Splits
from latentood.plugins import hyperparameters_of

log = logging.getLogger(__name__)

ALL = "all"
_ENTROPY = "mc.entropy/"

Grid = dict[str, list[Any]]
"""hyperparameter → values to try."""


@dataclass(frozen=True)
class Selection:
    """What to score, and what ``all`` had to leave out because its inputs are not there."""

    detectors: tuple[Detector, ...]
    skipped: tuple[Unscored, ...] = ()
    optional: tuple[Detector, ...] = ()  # of the detectors, those that only ``all`` stands for


@dataclass(frozen=True)
class Expansion:
    """The grid of each detector that was asked for."""

    grids: Mapping[str, Grid]  # detector → grid
    skipped: tuple[Unscored, ...]
    named: frozenset[str]  # detectors that were asked for by name, not by ``all`` alone


def select(
    names: str | Sequence[str] = ALL,
    *,
    layers: str | Sequence[str] | None = None,
    settings: Iterable[str] = (),
    splits: Splits,
    scores: bool = True,
) -> Selection:
    """Expand a request into detectors; those of ``all`` that lack inputs are listed as skipped.

    The arguments and errors are those of :func:`expand`.
    """
    wanted = expand(names, layers=layers, settings=settings, splits=splits, scores=scores)
    ready = [one for name, grid in wanted.grids.items() for one in combinations(name, grid)]
    if layers and not any(candidate.per_layer for candidate in ready):
        log.warning("layers: none of these detectors can look at another layer than its own")
    optional = tuple(one for one in ready if one.name not in wanted.named)
    return Selection(tuple(ready), wanted.skipped, optional)


def expand(
    names: str | Sequence[str] = ALL,
    *,
    layers: str | Sequence[str] | None = None,
    settings: Iterable[str] = (),
    splits: Splits,
    scores: bool = True,
    tries: bool = False,
) -> Expansion:
    """Expand a request into grids of hyperparameters, checked against the arrays that are there.

    Args:
        names: ``all``, or detector names (a list, or separated by commas).
        layers: Globs over the cached layers, for detectors that can read any layer;
            ``mc.entropy/<glob>`` gives them the entropies of a layer. Default: each detector's
            own layer; those that read entropies read every layer that has them.
        settings: ``detector.hyperparameter=value`` each, values in YAML; several, separated by
            commas or in brackets, are tried one by one, in all combinations.
        splits: What will be fitted on and scored.
        scores: Whether anything will be scored; else splits to fit on are enough.
        tries: Try the values that hyperparameters declare, where no others are given.

    Raises:
        UnknownName: No such detector, layer or hyperparameter (names the nearest).
        MissingInput: A detector named explicitly lacks an array it reads, or every one does.
        DetectorError: A hyperparameter is outside its range.
        ConfigError: A setting cannot be read, or the splits lack a role.
    """
    asked = _listed(names)
    chosen = _chosen(asked)
    given = _grids(settings, chosen)
    roles = Roles.of(splits, scores=scores)
    rows = roles.open(splits)
    keys = next(iter(rows.values())).keys()  # those of the fit split
    patterns = _listed(layers or ())
    _check_layers(patterns, keys)
    grids: dict[str, Grid] = {}
    skipped: list[Unscored] = []
    for name in chosen:
        declared = _declared(name) if tries else {}
        try:
            grid = _with_layers(name, declared | given.get(name, {}), patterns, keys)
            for candidate in combinations(name, grid):
                require_inputs(candidate, rows, roles)
            grids[name] = grid
        except DetectorError as error:
            # With `all`, only what was not asked for by name may be left out quietly.
            if ALL not in asked or (name in given and not isinstance(error, MissingInput)):
                raise
            log.info("skipped: %s", error)
            skipped.append(Unscored.of(Request(name, "", {}), error))
    if not grids:
        raise MissingInput(f"score: no detector finds all it reads; the first: {skipped[0].reason}")
    return Expansion(grids, tuple(skipped), frozenset({*asked, *given} - {ALL}))


def _listed(names: str | Sequence[str]) -> list[str]:
    parts = names.split(",") if isinstance(names, str) else names
    return [part.strip() for part in parts if part.strip()]


def _chosen(names: Sequence[str]) -> list[str]:
    """Check detector names; ``all`` stands for every one, a name given twice counts once."""
    known = registry()
    if not names:
        raise ConfigError(f"detectors: must be {ALL} or names separated by commas, got none")
    for name in names:
        if name != ALL and name not in known:
            raise unknown("detector", name, [ALL, *known])
    return list(known) if ALL in names else list(dict.fromkeys(names))


def _grids(settings: Iterable[str], chosen: Sequence[str]) -> dict[str, Grid]:
    """Read ``detector.hyperparameter=value`` settings."""
    known = registry()
    grids: dict[str, Grid] = {}
    for setting in settings:
        target, equals, text = setting.partition("=")
        name, dot, hyperparameter = target.strip().partition(".")
        if not (equals and dot and name and hyperparameter):
            raise ConfigError(
                f"--set {setting}: must be DETECTOR.HYPERPARAMETER=VALUE, e.g. --set knn.k=10,50"
            )
        if name not in known:
            raise unknown("detector", name, known)
        if name not in chosen:
            raise ConfigError(
                f"--set {setting}: {name} must be among the detectors to score, got "
                f"{', '.join(chosen)}; add it to --detectors"
            )
        there = {one.name: one for one in hyperparameters_of(known[name])}
        if hyperparameter not in there:
            raise unknown(f"hyperparameter of {name}", hyperparameter, there)
        values = _values(setting, text, is_sequence=there[hyperparameter].is_sequence)
        grids.setdefault(name, {})[hyperparameter] = values
    return grids


def _values(setting: str, text: str, *, is_sequence: bool) -> list[Any]:
    """Read the values to try: two in ``a,b`` and ``[a, b]``, but one for a sequence in brackets."""
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        values = []
    if is_sequence:
        values = [tuple(value) if isinstance(value, list) else value for value in values]
    else:
        parts = [value if isinstance(value, list) else [value] for value in values]
        values = list(itertools.chain.from_iterable(parts))
    if not values:
        raise ConfigError(f"--set {setting}: must have a value in YAML, e.g. 50 or 10,50")
    return values


def _check_layers(patterns: Sequence[str], keys: Sequence[Key]) -> None:
    """Refuse a glob that matches no cached layer."""
    layers = _cached_layers(keys)
    for pattern in patterns:
        if not any(_matches(layer, pattern, anywhere=True) for layer in layers):
            raise unknown("cached layer", pattern, layers)


def _cached_layers(keys: Sequence[Key]) -> list[str]:
    """Name the layers that are there; those of entropies keep their ``mc.entropy/``."""
    return [key.source for key in keys if key.kind in ("features", "mc.entropy")]


def _matches(layer: str, pattern: str, *, anywhere: bool = False) -> bool:
    """Whether a glob matches a layer; ``*`` is for features unless ``anywhere``."""
    if anywhere:
        layer, pattern = layer.removeprefix(_ENTROPY), pattern.removeprefix(_ENTROPY)
    elif layer.startswith(_ENTROPY) != pattern.startswith(_ENTROPY):
        return False
    return fnmatchcase(layer, pattern)


def combinations(name: str, grid: Grid) -> Iterator[Detector]:
    """Build a detector for every combination of hyperparameters."""
    for combination in itertools.product(*grid.values()):
        yield detector(name, **dict(zip(grid, combination, strict=True)))


def _declared(name: str) -> Grid:
    """Give the values that the hyperparameters of a detector declare to be worth trying."""
    return {one.name: list(one.tries) for one in hyperparameters_of(registry()[name]) if one.tries}


def _with_layers(name: str, grid: Grid, patterns: Sequence[str], keys: Sequence[Key]) -> Grid:
    """Add the layers and heads that a detector is to look at."""
    template = detector(name, **{one: values[0] for one, values in grid.items()})
    if template.per_layer and "layer" not in grid:
        grid = _layers_for(template, patterns, keys) | grid
    if template.of_head and not grid.keys() & {"head", *template.instead_of_head}:
        heads = [key.layer for key in keys if key.kind == template.of_head]
        grid = ({"head": heads} if heads else {}) | grid
    return grid


def _layers_for(template: Detector, patterns: Sequence[str], keys: Sequence[Key]) -> Grid:
    """Choose the layers of a detector; an empty grid leaves it its own."""
    kind = Key.parse(template.needs().score[0]).kind
    reads_entropy, reads_passes = kind == "mc.entropy", kind == "mc.features"
    layers = _cached_layers(keys)
    if reads_entropy:
        layers = [layer for layer in layers if layer.startswith(_ENTROPY)]
    if reads_passes:
        layers = [key.layer for key in keys if key.kind == "mc.features"]
    if not layers or not (patterns or reads_entropy or reads_passes):
        return {}
    chosen = [
        layer
        for layer in layers
        if not patterns or any(_matches(layer, p, anywhere=reads_entropy) for p in patterns)
    ]
    if not chosen:
        raise MissingInput(
            f"{template.name}: looks at one of {', '.join(layers)}, but --layers has "
            f"{', '.join(patterns)}; add one of them or leave out {template.name}"
        )
    return {"layer": chosen}
