"""Names of the items of a data set, so that a row of a result leads back to its image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from torch.utils.data import ConcatDataset, Subset

FILE_LISTS = ("samples", "_samples", "imgs", "images", "_images", "_image_files", "filename")
"""Attributes in which data sets list their files, alone or with a label."""


def names_of(source: Any) -> Sequence[str]:
    """Name every item.

    By the data set's own ``ids`` where there are any; else by its image files, relative to its
    ``root`` or else to the folder that they share; else by number. The data set is map-style, one
    of ours, torchvision's or Hugging Face's.
    """
    size = len(source)
    ids = getattr(source, "ids", None)
    if isinstance(ids, Sequence) and len(ids) == size:
        return ids
    if isinstance(source, Subset):
        return Picked(names_of(source.dataset), source.indices)
    if isinstance(source, ConcatDataset):
        return [name for part in source.datasets for name in names_of(part)]
    files = _listed_files(source, size) or _hugging_face_files(source)
    if not files:
        return Picked(range(size), range(size))
    return _shortened(files, getattr(source, "root", None))


class Picked(Sequence[str]):
    """Names at some places of a longer list, made only when they are read."""

    def __init__(self, names: Sequence[Any], places: Sequence[int]) -> None:
        self.names = names
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return Picked(self.names, self.places[index])
        return str(self.names[self.places[index]])


def _listed_files(source: Any, size: int) -> list[str]:
    """List the files of torchvision's data sets, and of others with the same attributes."""
    for attribute in FILE_LISTS:
        listed = getattr(source, attribute, None)
        if isinstance(listed, list) and len(listed) == size:
            files = [one[0] if isinstance(one, tuple | list) and one else one for one in listed]
            if all(isinstance(file, str | Path) for file in files):
                return [str(file) for file in files]
    return []


def _hugging_face_files(source: Any) -> list[str]:
    """Read the paths of images without decoding any; none unless they name every image."""
    features = getattr(source, "features", None)
    if not isinstance(features, dict) or not hasattr(source, "cast_column"):
        return []
    for field, feature in features.items():
        if type(feature).__name__ == "Image":
            undecoded = type(feature)(decode=False)
            table = source.select_columns([field]).cast_column(field, undecoded).flatten()
            paths = table.select_columns([f"{field}.path"])[:][f"{field}.path"]
            # Paths of images within a table have only their last part, or are None.
            return paths if None not in paths and len(set(paths)) == len(paths) else []
    return []


def _shortened(files: list[str], root: Any) -> list[str]:
    """Remove the common folder of paths, which would change if the data set moved."""
    above = os.path.join(str(root), "") if root is not None else ""
    if not above or not all(file.startswith(above) for file in files):
        ends = [os.path.dirname(file) for file in (min(files), max(files))]
        try:
            above = os.path.join(os.path.commonpath(ends), "")
        except ValueError:  # absolute and relative ones together
            return files
    return [file.removeprefix(above) for file in files]
