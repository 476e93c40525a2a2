"""The command that says which detectors are likely to work, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from latentood.cli import terminal
from latentood.cli.options import AsJson, Memory, StorePath, Unit, Where

if TYPE_CHECKING:
    from latentood.detectors.advice.advice import Advice, PlaceAdvice, Verdict
    from latentood.detectors.advice.measures import Measured


def advise(
    store: StorePath,
    layers: Annotated[
        str | None, typer.Option("--layer", help="Layers or globs, with commas (default: all).")
    ] = None,
    unit: Unit = None,
    memory: Memory = None,
    device: Where = None,
    as_json: AsJson = False,
) -> None:
    """Say from ID rows alone which families of detectors are likely to work: a heuristic.

    Example: `latentood advise caches/cifar10.zarr --layer penultimate`
    """
    with terminal.stoppable("nothing was written"):
        from latentood import workflows

        advice = workflows.advise(store, layers=layers, unit=unit, memory=memory, device=device)
    if as_json:
        terminal.show_json(advice.as_json())
    else:
        _show(advice)


def _show(advice: Advice) -> None:
    terminal.say(f"{advice.note}\n")
    counts = [f"{rows:,} {role}" for role, rows in advice.rows.items()]
    terminal.say(f"rows: {', '.join(counts)}" + _unconfirmed(advice))
    for place in advice.places:
        terminal.say(f"\n{place.name}")
        _show_place(place)
    if advice.commands:
        terminal.say("\nnext:")
    for command in advice.commands:
        terminal.say(f"  {command}")


def _unconfirmed(advice: Advice) -> str:
    return "" if advice.rows["val"] else "; nothing is confirmed: there is no split of role val"


def _show_place(place: PlaceAdvice) -> None:
    if place.problem:
        terminal.say(f"cannot be measured: {place.problem}")
    if place.measures:
        terminal.table(("measure", "fit", "val", "what it is"), list(_measures(place)))
    if place.families:
        columns = ("family", "heuristic", "seen", "why", "detectors")
        terminal.table(columns, [_family(one) for one in place.families])
    lacking = [f"{name} ({what})" for name, what in place.unreadable.items()]
    if lacking:
        terminal.say(f"cannot be used: {', '.join(lacking)}")


def _measures(place: PlaceAdvice) -> Iterator[tuple[str, str, str, str]]:
    from latentood.detectors.advice.measures import MEASURES

    for name, one in place.measures.items():
        words = MEASURES[name].words
        missing = f" – missing: {one.missing}" if one.missing else ""
        yield name, *_values(one), words + missing


def _values(one: Measured) -> tuple[str, str]:
    return _number(one.fit), _number(one.val)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _family(one: Verdict) -> tuple[str, str, str, str, str]:
    seen = f"right {one.seen.agreed} of {one.seen.checked}" if one.seen.checked else "no check"
    return one.family, one.outcome, seen, one.reason, " ".join(one.detectors)
