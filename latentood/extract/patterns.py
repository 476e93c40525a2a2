"""Globs over dotted module names: ``*`` stays within a level, ``**`` crosses levels."""

from __future__ import annotations

import re
from collections.abc import Iterable


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """List the names that a glob matches, in their own order.

    Args:
        pattern: ``layer*`` matches ``layer1`` but not ``layer1.0.conv1``; ``layer1.**`` matches
            everything inside ``layer1``; ``?`` is one character.
        names: Dotted names.
    """
    parts = [_PART.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern)]
    compiled = re.compile("".join(parts))
    return [name for name in names if compiled.fullmatch(name)]


_PART = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
