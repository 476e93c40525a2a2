"""Output in the terminal: progress, tables, JSON. Plain text when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from latentood.errors import masked, printable
from latentood.files import human_bytes

STOPPED = 130
"""Exit status of what was stopped by a signal."""

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class _Rate(ProgressColumn):
    """Things done per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.{0 if speed >= 10 else 1}f} {self.unit}/s" if speed else "")


class _Written(ProgressColumn):
    """Bytes put on the disk."""

    def render(self, task: Task) -> Text:
        written = task.fields.get("written", 0)
        return Text(f"{human_bytes(written)} written" if written else "")


@contextmanager
def extraction_progress() -> Iterator[Callable[[str, int, int, int], None]]:
    """Show a bar per split and one for all: rate, bytes written and remaining time, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    timing = (_Rate("rows"), _Written(), TimeRemainingColumn())
    with Progress(*columns, *timing, console=err) as bars:
        tasks: dict[str, Any] = {}
        now: dict[str, tuple[int, int, int]] = {}  # of each split: rows done, to do, bytes written
        there: dict[str, int] = {}  # rows of earlier calls, which are not part of the rate
        whole = bars.add_task("to do in all", visible=False)

        def advance(name: str, done: int, total: int, written: int) -> None:
            if name not in tasks:
                there[name] = done
                tasks[name] = bars.add_task(name, total=total, completed=done)
            bars.update(tasks[name], completed=done, written=written)
            now[name] = (max(0, done - there[name]), total - there[name], written)
            sums = [sum(column) for column in zip(*now.values(), strict=True)]
            bars.update(
                whole, completed=sums[0], total=sums[1], written=sums[2], visible=len(now) > 1
            )

        yield advance


@contextmanager
def row_progress(unit: str = "rows") -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar per name, with rate and remaining time, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, _Rate(unit), TimeRemainingColumn(), console=err) as bars:
        tasks: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                # Rows that were there before this call are not part of its rate.
                tasks[name] = bars.add_task(name, total=total, completed=done)
            bars.update(tasks[name], completed=done)

        yield advance


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, aligned plain text elsewhere."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if out.is_terminal:
        drawn = Table(*columns)
        for row in cells:
            drawn.add_row(*row)
        out.print(drawn)
        return
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print(line.rstrip(), highlight=False, markup=False)


def say(text: str) -> None:
    """Print a line of result."""
    out.print(_plain_text(text), highlight=False, markup=False)


def note(text: str) -> None:
    """Print a line that is not the result, on stderr."""
    err.print(_plain_text(text), highlight=False, markup=False)


def _plain_text(text: str) -> str:
    """Write lines without control characters and passwords, which a name or an address may hold."""
    return "\n".join(printable(masked(line)) for line in text.split("\n"))


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    """Give a path or a dataclass as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    return {spec.name: getattr(value, spec.name) for spec in fields(value)}


def human_time(seconds: float) -> str:
    """Write a duration with units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


@contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Turn Ctrl-C into a line that says what is kept, and the exit status of a stop."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; {kept}: run the same command again")
        raise typer.Exit(STOPPED) from None
