"""Heads that were trained on features of a cache: one file each, beside the splits.

What a head gives for the rows of a split is an array group of that split; its weights are here, so
that a detector which reads these arrays can be fitted, saved and used on other rows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from latentood import files
from latentood.store.disk import require_folder
from latentood.store.schema import check_name

HEADS = "heads"
"""Folder of the files, in a store."""

_SUFFIX = ".safetensors"
_DRAFT = re.compile(r".+\.safetensors\.\d+~partial")


def head_files(store: Path) -> dict[str, Path]:
    """List the files of heads by the names of the heads.

    Raises:
        StoreError: A link is in place of their folder.
    """
    paths = sorted(path for path in _entries(store) if path.suffix == _SUFFIX)
    return {path.name.removesuffix(_SUFFIX): path for path in paths}


def head_file(store: Path, name: str) -> Path:
    """Give the path of the file of a head, which need not be there.

    Raises:
        ConfigError: A head cannot have this name.
    """
    return store / HEADS / f"{check_name('head', name)}{_SUFFIX}"


def place_for_head(store: Path, name: str) -> Path:
    """Give the path of the file of a head, in a folder that is there.

    Raises:
        StoreError: A link is in place of that folder.
        ConfigError: A head cannot have this name.
    """
    folder = store / HEADS
    require_folder(folder)
    if not folder.is_dir():
        folder.mkdir()
        files.sync_folder(store)
    return head_file(store, name)


def sweep_heads(store: Path) -> None:
    """Delete what a killed writer left unfinished, or put aside."""
    for path in _entries(store):
        if _DRAFT.fullmatch(path.name):
            files.remove(path)
    aside = store / f"{HEADS}{files.UNFINISHED}"
    if aside.is_dir() and all(map(_is_ours, aside.iterdir())):
        files.remove(aside)


def foreign_head(store: Path) -> Path | None:
    """Name something in the folder of heads that no writer of a store can have put there."""
    return next((path for path in _entries(store) if not _is_ours(path)), None)


def _entries(store: Path) -> list[Path]:
    folder = store / HEADS
    require_folder(folder)
    return [Path(entry.path) for entry in os.scandir(folder)] if folder.is_dir() else []


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.suffix != _SUFFIX:
        return False
    try:
        with safe_open(path, framework="np") as opened:
            return "latentood" in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False
