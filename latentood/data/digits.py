"""The handwritten digits that scikit-learn ships, split without a download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentood.errors import ConfigError, unknown

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
"""Share of each digit's images in each part; the last takes what rounding leaves."""


class Digits:
    """Digits of some classes as (1, size, size) float32 images in [-1, 1].

    The 8×8 originals are enlarged bilinearly. The split is stratified by digit and depends on
    ``seed`` alone, so an image is in the same part whichever classes are kept.

    Args:
        classes: Digits to keep; a label is the position of its digit in this list.
        part: ``train``, ``val``, ``test`` or ``all``.
        size: Height and width.
        seed: Other seeds split otherwise, ≥ 0.
        labelled: Give ``(image, label)``; ``false`` gives the image alone, for OOD splits,
            whose digits have no place among a model's classes.

    Attributes:
        ids: Names of the images, by their row in scikit-learn's data set.

    Raises:
        ConfigError: No class, an unknown or repeated digit, or a size or seed out of range.
        UnknownName: No such part.
    """

    def __init__(
        self,
        classes: Sequence[int],
        part: str = "train",
        size: int = 32,
        seed: int = 0,
        labelled: bool = True,
    ) -> None:
        _check(classes, part, size, seed)
        from sklearn.datasets import load_digits  # slow to import, and only this needs it

        raw = load_digits()
        rows = _rows(raw.target, classes, part, seed)
        grey = torch.from_numpy(raw.images[rows]).float()[:, None] / 8 - 1
        self.images = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
        place = {digit: label for label, digit in enumerate(classes)}
        self.labels = [place[int(digit)] for digit in raw.target[rows]]
        self.labelled = labelled
        self.ids = [f"digit-{row:04d}" for row in rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        image = self.images[index]
        return (image, self.labels[index]) if self.labelled else image


def _check(classes: Sequence[int], part: str, size: int, seed: int) -> None:
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ConfigError(
            f"Digits: classes must be different digits from 0 to 9, got {list(classes)}; "
            "e.g. [0, 1, 2]"
        )
    if part != "all" and part not in SHARES:
        raise unknown("part of Digits", part, [*SHARES, "all"])
    if size < 1 or seed < 0:
        raise ConfigError(
            f"Digits: size must be ≥ 1 and seed ≥ 0, got size {size} and seed {seed}; "
            "32 and 0 are the defaults"
        )


def _rows(
    digits: NDArray[np.int64], classes: Sequence[int], part: str, seed: int
) -> NDArray[np.int64]:
    """Rows of a part, in the order of the original data set."""
    chosen = []
    for digit in classes:
        order = np.random.Generator(np.random.Philox([seed, digit])).permutation(
            np.flatnonzero(digits == digit)
        )
        ends = np.round(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
        pieces = dict(zip(SHARES, np.split(order, ends[:-1]), strict=True))
        chosen.append(order if part == "all" else pieces[part])
    return np.sort(np.concatenate(chosen))
