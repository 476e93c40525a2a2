"""Data sets of the Hugging Face Hub, and those on disk in its forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentood.data.extras import one_of, require
from latentood.errors import ConfigError, unknown

_SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk leaves


def hugging_face(
    split: str | None = None,
    name: str | None = None,
    folder: str | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> Any:
    """Open one split of a data set; needs the extra [hf].

    ``datasets.load_dataset`` itself gives all splits at once when none is named, and a pipeline
    file would take its ``path`` for one of a file.

    Args:
        split: Which split, e.g. ``test`` or ``train[:10%]``; a data set that was saved without
            splits has none.
        name: Name on the Hub, e.g. ``uoft-cs/cifar10``.
        folder: Or a folder: what ``save_to_disk`` wrote, image folders, parquet files.
        config: Which of the data set's configurations, if it has several.
        revision: Commit or tag on the Hub; name one for results that stay the same.

    Returns:
        A map-style data set whose items are mappings.

    Raises:
        ConfigError: datasets is not installed, not exactly one of name and folder is given, or
            no split is named where there are several.
        UnknownName: No such split of a saved data set (names the nearest).
        OSError, ValueError: There is no such data set, or split of it.
    """
    where = one_of("hugging_face", name=name, folder=folder)
    datasets = require("datasets", extra="hf", who="hugging_face")
    if folder is not None and any((Path(folder) / mark).is_file() for mark in _SAVED):
        loaded = datasets.load_from_disk(where)
        if split is not None and isinstance(loaded, dict):
            if split not in loaded:
                raise unknown(f"split of {folder}", split, loaded)
            return loaded[split]
    else:
        loaded = datasets.load_dataset(where, config, split=split, revision=revision)
    if isinstance(loaded, dict):
        raise ConfigError(
            f"hugging_face: {where} has the splits {', '.join(loaded)}, got none; set split"
        )
    return loaded
