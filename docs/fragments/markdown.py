"""From docstrings and values to Markdown."""

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
_ITEM = re.compile(r"^(\*{0,2}\w[\w, ]*): (.*)$")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_ADDRESS = re.compile(r"(?<![\w/.])((?:[a-z]+\.)+[a-z]{2,}/[\w./?=-]*\w)")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; bars within cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(value: object) -> str:
    """Set a value in code; nothing for what is empty."""
    text = str(value)
    return f"`{text}`" if text else ""


def codes(values: Iterable[object]) -> str:
    """List values in code."""
    return ", ".join(code(value) for value in values)


def linked(text: str) -> str:
    """Turn arXiv numbers and addresses into links."""
    text = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return _ADDRESS.sub(r"[\1](https://\1)", text)


def inline(text: str) -> str:
    """Turn reStructuredText's code and references into code, and escape what is not code."""
    parts = _ROLE.sub(r"`\1`", text).replace("``", "`").split("`")
    parts[::2] = [re.sub(r"([<*])", r"\\\1", prose) for prose in parts[::2]]
    return "`".join(parts)


def docstring(documented: object) -> str:
    """Write the Google-style docstring of an object."""
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.getdoc(documented) or ""):
        heading, _, body = block.partition("\n")
        named = _SECTION.match(heading)
        parts.append(f"**{named[1]}**\n\n{_section(body)}" if named else inline(block))
    return "\n\n".join(parts)


def _section(body: str) -> str:
    """Write the entries of a section as a list; a section that is prose stays so."""
    entries: list[str] = []
    for line in dedent(body).splitlines():
        item = _ITEM.match(line)
        if item:
            entries.append(f"- `{item[1]}`: {item[2]}")
        elif entries and line.startswith(" "):
            entries[-1] += f" {line.strip()}"
        else:
            return inline(dedent(body))
    return "\n".join(map(inline, entries))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
