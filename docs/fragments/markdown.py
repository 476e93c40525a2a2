"""From docstrings and values to Markdown."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
_SIGN = re.compile(r"[<_|]|(?<!\*)\*(?!\*)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_ADDRESS = re.compile(r"(?<![\w/.])((?:[a-z]+\.)+[a-z]{2,}/[\w./?=-]*\w)")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of Markdown cells."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


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
    parts[::2] = [_SIGN.sub(lambda sign: f"&#{ord(sign[0])};", prose) for prose in parts[::2]]
    return "`".join(parts)
