"""The file of a choice of settings: plain JSON under a digest, so that no edit goes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentood.errors import ConfigError, StoreError, one_line
from latentood.evaluation.choice.choosing import FORMAT
from latentood.files import read_regular, write_file
from latentood.latents.facts import digest

NAME = "choice.json"

_DIGEST = "digest"
_MOST = 1 << 28  # bytes


def write_choice(choice: Mapping[str, Any], path: Path) -> None:
    """Write a choice, whole or not at all.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    whole = dict(choice) | {_DIGEST: digest(choice)}
    text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"tune: {path} must be in a folder that can be written to, but it is not "
            f"({error.strerror or error}); choose another --out"
        ) from error


def read_choice(path: Path) -> dict[str, Any]:
    """Read a choice that is as it was written.

    Raises:
        StoreError: There is no such file, it holds something else, or it was edited.
    """
    try:
        whole = json.loads(read_regular(path, _MOST))
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(path, f"a file that cannot be read ({one_line(error)})") from error
    if not isinstance(whole, dict) or _DIGEST not in whole:
        raise _refused(path, "something else")
    kept = {name: value for name, value in whole.items() if name != _DIGEST}
    if kept.get("format") != FORMAT:
        raise _refused(path, f"format {kept.get('format')!r}, where this version reads {FORMAT}")
    if digest(kept) != whole[_DIGEST]:
        raise _refused(path, "other contents than were written")
    return kept


def _refused(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: must hold a choice as latentood tune wrote it, got {what}; add --overwrite to "
        "choose anew, or name another --out"
    )
