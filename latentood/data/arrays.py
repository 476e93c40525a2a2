"""Images kept as NumPy arrays in .npz or .npy files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from latentood.errors import ConfigError, DataError, suggest, unknown

LAYOUTS = ("auto", "hwc", "chw")


class Arrays:
    """Images, and labels where there are some, from array files.

    An image comes out as a (C, H, W) tensor in the file's own values (uint8 or float32), so
    that torchvision's v2 transforms take it as they take a photograph, e.g. to resize it or to
    convert grey to RGB. Files are never unpickled.

    Args:
        path: ``.npz`` with the images under ``images_key``, or ``.npy`` with the images alone:
            (N, H, W), (N, H, W, C) or (N, C, H, W), with C = 1 or 3.
        labels_path: ``.npy`` file with labels (N,); without it those under ``labels_key`` of the
            ``.npz``, where there are any.
        images_key: Name of the images in an ``.npz``.
        labels_key: Name of the labels in an ``.npz``.
        layout: ``hwc`` or ``chw`` for four-dimensional images; ``auto`` chooses where only
            one of the two is possible.

    Raises:
        DataError: A file is missing, damaged, or does not hold what it should.
        UnknownName: No such layout.
    """

    def __init__(
        self,
        path: str | Path,
        labels_path: str | Path | None = None,
        images_key: str = "images",
        labels_key: str = "labels",
        layout: str = "auto",
    ) -> None:
        if layout not in LAYOUTS:
            raise unknown("layout of Arrays", layout, LAYOUTS)
        arrays = _read(Path(path), images_key)
        _require(arrays, images_key, "images_key", path)
        _check_kind(arrays[images_key], path)
        self.images = _channels_first(arrays[images_key], layout, path)
        self.labels = None
        if labels_path is not None:
            arrays, path = _read(Path(labels_path), labels_key), labels_path
            _require(arrays, labels_key, "labels_key", path)
        if labels_key in arrays:
            self.labels = arrays[labels_key]
            _check_labels(self.labels, len(self.images), path)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        pixels = self.images[index]
        kept = np.uint8 if pixels.dtype == np.uint8 else np.float32
        image = torch.from_numpy(np.array(pixels, dtype=kept))
        return image if self.labels is None else (image, int(self.labels[index]))


def _read(path: Path, key: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file; the one of an ``.npy`` is called ``key``."""
    if not path.is_file():
        raise DataError(f"Arrays: path must name a .npz or .npy file, but there is no file {path}")
    try:
        if path.suffix == ".npy":  # mapped: a large one costs no memory until its rows are used
            return {key: np.lib.format.open_memmap(path, mode="r")}
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        raise DataError(
            f"Arrays: {path} must be a .npz or .npy file of plain numbers, but cannot be read "
            f"({problem}); write it anew with numpy.savez(path, images=…, labels=…)"
        ) from problem


def _require(arrays: dict[str, NDArray[Any]], key: str, argument: str, path: str | Path) -> None:
    if key not in arrays:
        raise DataError(
            f"Arrays: {path} must hold an array {key!r}, but has none of that name; "
            f"{suggest(key, arrays)} (set {argument})"
        )


def _check_kind(images: NDArray[Any], path: str | Path) -> None:
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"Arrays: images in {path} must be uint8 or floats, got {images.dtype}; convert them"
        )


def _channels_first(images: NDArray[Any], layout: str, path: str | Path) -> NDArray[Any]:
    """Turn (N, H, W), (N, H, W, C) or (N, C, H, W) into (N, C, H, W), a view."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise DataError(
            f"Arrays: images in {path} must have 3 or 4 dimensions, got shape {images.shape}; "
            "put rows first"
        )
    fits = {"chw": images.shape[1] in (1, 3), "hwc": images.shape[3] in (1, 3)}
    if layout == "auto":
        possible = [name for name, fit in fits.items() if fit]
        if len(possible) == 2:
            raise ConfigError(
                f"Arrays: images in {path} of shape {images.shape} may be chw or hwc; "
                "say which with layout"
            )
        layout = possible[0] if possible else "hwc"
    if not fits[layout]:
        raise DataError(
            f"Arrays: images in {path} must have 1 or 3 channels, got shape {images.shape} "
            f"read as {layout}; convert them or set layout"
        )
    return images if layout == "chw" else images.transpose(0, 3, 1, 2)


def _check_labels(labels: NDArray[Any], rows: int, path: str | Path) -> None:
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (rows,):
        raise DataError(
            f"Arrays: labels in {path} must be {rows} integers, one for each image, got "
            f"{labels.dtype} of shape {labels.shape}; save them as int64"
        )
