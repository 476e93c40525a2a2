"""What rows are: which are OOD, and of which image each is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentood.errors import DataError
from latentood.evaluation.members.boxes import Objects
from latentood.evaluation.metrics import Array
from latentood.latents import Key, Latents
from latentood.latents.facts import Role, state_of
from latentood.latents.key import Unit
from latentood.latents.members import Layout
from latentood.latents.rows import Rows

ImageScore = Literal["max", "mean", "top3"]
"""How the scores of members become that of their image."""

_IMAGES = 16  # whose masks are read together


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of images whose cells are scored."""

    masks: Rows  # (N, H, W) uint8: 0 ID, 1 OOD, 255 neither counts
    rows: int  # of the grid of cells
    columns: int

    def parts(self) -> Iterator[Tensor]:
        """Read masks, some images at a time."""
        count = self.masks.shape[0]
        for start in range(0, count, _IMAGES):
            yield self.masks.read(start, min(start + _IMAGES, count))


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of images that are scored, and the true objects of these images."""

    xyxy: Array  # (M, 4) corners in pixels of the input
    confidence: Array  # (M,)
    predictions: NDArray[np.int64]  # (M,) classes
    objects: tuple[Objects, ...] | None  # of each image; None where they are not known


@dataclass(frozen=True, eq=False)
class Truth:
    """Which rows of a split are OOD: 0 ID, 1 OOD, 255 neither counts."""

    unit: Unit
    ood: NDArray[np.uint8]  # (M,)
    image: NDArray[np.int64]  # (M,), ascending
    images: int  # N
    pixels: Pixels | None = None  # where scores of cells are compared pixel by pixel
    boxes: Boxes | None = None

    @classmethod
    def of(cls, rows: Latents, role: Role, unit: Unit) -> Truth:
        """Read what the members of images (N rows) are; without ``ood`` their role says it.

        Raises:
            DataError: The rows of a split of role mixed do not say whether they are OOD.
        """
        key = Key("ood", unit=unit)
        if role == "mixed" and key not in rows:
            raise DataError(
                f"{rows.name}: rows of a split of role mixed must have {key}, got "
                f"{', '.join(rows.keys())}; extract with targets that say what is OOD, or choose "
                "another role"
            )
        layout = _layout(rows, unit)
        if key in rows:
            whole = rows[key].cpu()
            there = torch.arange(whole.shape[1]) < layout.count[:, None] if whole.dim() > 1 else ...
            ood = whole[there].numpy()
        else:
            ood = np.full(layout.members, state_of(role), dtype=np.uint8)
        image = layout.image_of().numpy()
        return cls(unit, ood, image, len(rows), _pixels(rows, unit), _boxes(rows, unit))

    def has(self, state: int) -> bool:
        """Whether something that is compared is ID (0) or OOD (1)."""
        if self.pixels is None:
            return bool((self.ood == state).any())
        return any(bool((part == state).any()) for part in self.pixels.parts())


def _layout(rows: Latents, unit: Unit) -> Layout:
    if unit == "image":
        return Layout(torch.ones(len(rows), dtype=torch.int64))
    return Layout(rows[Key("count", unit=unit)].cpu())


def _pixels(rows: Latents, unit: Unit) -> Pixels | None:
    masks, place = Key("masks"), Key("place", unit="cell")
    if unit != "cell" or masks not in rows:
        return None
    last = rows.read(place, 0, 1)[0, -1].tolist()  # all cells are there, row after row
    return Pixels(rows.rows(masks), last[0] + 1, last[1] + 1)


def _boxes(rows: Latents, unit: Unit) -> Boxes | None:
    if unit != "box" or Key("xyxy", unit="box") not in rows:
        return None
    members = rows.members("box")
    xyxy, confidence = (members[kind].cpu().double().numpy() for kind in ("xyxy", "confidence"))
    predictions = members["predictions"].cpu().numpy().astype(np.int64)
    return Boxes(xyxy, confidence, predictions, _objects(rows))


def _objects(rows: Latents) -> tuple[Objects, ...] | None:
    kinds = ("count", "xyxy", "labels", "ood")
    count, *columns = (Key(kind, unit="object") for kind in kinds)
    if count not in rows:
        return None
    whole = [rows[key].cpu() for key in columns]
    counts = rows[count].tolist()
    return tuple(Objects(*(one[n, :many] for one in whole)) for n, many in enumerate(counts))


def image_scores(scores: Array, truth: Truth, how: ImageScore) -> Array:
    """Turn the scores of members (M,) into those of images (N,): higher = more OOD.

    The largest, the mean, or the mean of the three largest (of fewer where there are no three). An
    image without members gets the lowest score of all, since nothing in it looks OOD.

    Raises:
        DataError: No image has a member.
    """
    if not scores.size:
        raise DataError("image score: at least one image must have a member, got none")
    order = np.lexsort((-scores, truth.image))  # by image, the largest first
    ordered, images = scores[order], truth.image[order]
    rank = np.arange(len(images)) - np.searchsorted(images, images)
    kept = rank < {"max": 1, "mean": len(images), "top3": 3}[how]
    count = np.bincount(images[kept], minlength=truth.images)
    total = np.bincount(images[kept], weights=ordered[kept], minlength=truth.images)
    result: Array = np.where(count > 0, total / np.maximum(count, 1), scores.min())
    return result
