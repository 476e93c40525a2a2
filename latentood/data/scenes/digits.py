"""Scenes of handwritten digits on photographs, with masks or boxes, without a download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentood.data.digits import SHARES, Digits
from latentood.data.photos import photos
from latentood.errors import ConfigError
from latentood.errors import unknown as unknown_name

TARGETS = ("masks", "boxes")
SIZES = (32, 64, 96)
FIELD = 32
"""Side of the square field of a scene that holds at most one digit."""
SIDES = (16, 24)
"""Least and largest side of an enlarged 8×8 digit."""
INK = 0.5
"""Least opacity of a pixel that is of a digit."""
TRACE = 0.1
"""Largest opacity of a pixel that is background; what is between the two is ignored."""
IGNORED = 255
"""Mask value of pixels that do not count."""


class DigitScenes:
    """Digits of random bright colours, enlarged 2 to 3 times, on crops of darkened photographs.

    A scene is an image (3, size, size), float32 in [-1, 1], and its target. Each of its fields of
    32×32 pixels holds a digit with chance ½, and at least one of them does. An item comes from
    (seed, part, index) alone. Parts share no digit and no place of a photograph, whatever their
    seeds: the digits are split as those of :class:`Digits` with its seed 0, the photographs into
    columns of the same shares.

    Masks hold 0 for the background and 1, 2, … for the ``known`` digits. Pixels at the edge of a
    digit, in part digit and in part background, are 255, to be ignored. Boxes are the smallest
    around the pixels of a digit, x1, y1, x2, y2; their labels are those of masks.

    Args:
        length: How many scenes, ≥ 0.
        known: Digits whose labels are 1, 2, … in this order.
        unknown: Digits that a model has never seen, as unknown objects.
        share: Chance of a digit to be an unknown one, where there are some.
        part: ``train``, ``val`` or ``test``.
        targets: ``masks``, (size, size) int64; or ``boxes``, a mapping with ``boxes`` (n, 4)
            float32 and ``labels`` (n,) int64.
        size: Height and width: 32, 64 or 96.
        unknown_label: Label of unknown digits, above those of the known ones and below 255.
        seed: Other seeds give other scenes, ≥ 0.

    Raises:
        ConfigError: A digit is known and unknown, or an argument is outside its range.
        UnknownName: No such part or kind of targets.
    """

    def __init__(
        self,
        length: int,
        known: Sequence[int],
        unknown: Sequence[int] = (),
        share: float = 0.5,
        part: str = "train",
        targets: str = "masks",
        size: int = 64,
        unknown_label: int = 254,
        seed: int = 0,
    ) -> None:
        for kind, name, names in (("part", part, SHARES), ("kind of targets", targets, TARGETS)):
            if name not in names:
                raise unknown_name(f"{kind} of DigitScenes", name, names)
        _check_numbers(length, share, size, seed)
        _check_digits(known, unknown, unknown_label)
        self.length, self.size, self.targets, self.seed = length, size, targets, seed
        self.share = share if unknown else 0.0
        self.unknown_label = unknown_label
        self.known = Digits(known, part, size=8)
        self.unknown = Digits(unknown, part, size=8) if unknown else self.known
        self.part = list(SHARES).index(part)
        self.shares = np.cumsum([0, *SHARES.values()])[self.part : self.part + 2]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | dict[str, Tensor]]:
        if not 0 <= index < self.length:
            raise IndexError(f"DigitScenes: no scene {index} of {self.length}")
        place = np.random.SeedSequence(self.seed, spawn_key=(self.part, index))
        random = np.random.Generator(np.random.Philox(place))
        image = self._background(random)
        mask = torch.zeros(self.size, self.size, dtype=torch.int64)
        boxes, labels = [], []
        for corner in self._corners(random):
            ink, label = self._digit(random)
            top, left = (corner + random.integers(FIELD - len(ink) + 1, size=2)).tolist()
            here = (..., slice(top, top + len(ink)), slice(left, left + len(ink)))
            colour = torch.from_numpy(random.uniform(0.3, 1, (3, 1, 1))).float()
            image[here] += ink * (colour - image[here])
            mask[here][ink > TRACE] = IGNORED
            mask[here][ink >= INK] = label
            rows, columns = torch.where(ink >= INK)
            ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            boxes.append(torch.stack(ends) + torch.tensor([left, top, left, top]))
            labels.append(label)
        if self.targets == "masks":
            return image, mask
        return image, {"boxes": torch.stack(boxes).float(), "labels": torch.tensor(labels)}

    def _background(self, random: np.random.Generator) -> Tensor:
        """Crop the columns of a photograph that belong to this part, at half the brightness."""
        choice = photos(grey=False)
        photo = choice[random.integers(len(choice))]
        first, last = np.round(self.shares * photo.shape[2]).astype(int)
        top = int(random.integers(photo.shape[1] - self.size + 1))
        left = int(random.integers(first, last - self.size + 1))
        crop = photo[:, top : top + self.size, left : left + self.size]
        return torch.from_numpy((crop - 1) / 2).float()

    def _corners(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Choose the fields that hold a digit: (n, 2), their top and left."""
        across = self.size // FIELD
        holds = random.random((across, across)) < 0.5
        holds[tuple(random.integers(across, size=2))] = True
        return FIELD * np.argwhere(holds)

    def _digit(self, random: np.random.Generator) -> tuple[Tensor, int]:
        """Draw an enlarged digit: its opacity (side, side) in [0, 1], and its label."""
        hidden = random.random() < self.share
        digits = self.unknown if hidden else self.known
        row = int(random.integers(len(digits)))
        side = int(random.integers(SIDES[0], SIDES[1] + 1))
        small = digits.images[row][None]
        large = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
        return (large[0, 0] + 1) / 2, self.unknown_label if hidden else digits.labels[row] + 1


def _check_numbers(length: int, share: float, size: int, seed: int) -> None:
    if length < 0 or seed < 0 or not 0 <= share <= 1 or size not in SIZES:
        raise ConfigError(
            f"DigitScenes: length and seed must be ≥ 0, share from 0 to 1 and size one of {SIZES}, "
            f"got {length}, {seed}, {share} and {size}; 1000, 0, 0.5 and 64 are usual"
        )


def _check_digits(known: Sequence[int], unknown: Sequence[int], unknown_label: int) -> None:
    if both := sorted(set(known) & set(unknown)):
        raise ConfigError(
            f"DigitScenes: known and unknown must have no digit in common, got {both} in both; "
            "remove them from one"
        )
    if not len(known) < unknown_label < IGNORED:
        raise ConfigError(
            f"DigitScenes: unknown_label must be above {len(known)}, the largest label of a known "
            f"digit, and below {IGNORED}, got {unknown_label}; 254 is the default"
        )
