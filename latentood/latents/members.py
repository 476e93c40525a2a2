"""Members of images, cells or boxes, as rows of their own: (N, K, …) by count becomes (M, …)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.latents.key import HASHES, Key, Unit
from latentood.latents.rows import Rows

_ODD = -7046029254386353131  # 0x9E3779B97F4A7C15, which spreads consecutive numbers over 64 bits


class Layout:
    """Where the members of each image are among all members.

    Args:
        count: (N,) members of each image, which are the first of its K.
    """

    def __init__(self, count: Tensor) -> None:
        self.count = count.long()
        self.ends = self.count.cumsum(0)

    @property
    def members(self) -> int:
        """M, how many members all images have."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def start(self, image: int) -> int:
        """Give the first member of an image; of the image after the last, M."""
        return int(self.ends[image - 1]) if image else 0

    def images(self, start: int, stop: int) -> tuple[int, int]:
        """Give the images whose members are ``start`` to ``stop``: the first, and one more."""
        inside = torch.tensor([start, stop - 1])
        first, last = torch.searchsorted(self.ends, inside, right=True).tolist()
        return first, last + 1

    def image_of(self) -> Tensor:
        """Give the image of each member: (M,) int64."""
        return torch.arange(len(self.count)).repeat_interleave(self.count)


class MemberRows:
    """The members of all images as rows (M, …) of an array (N, K, …).

    The image that was read last stays, so that rows that are read in order are read once.
    """

    def __init__(self, array: Rows, layout: Layout) -> None:
        self.shape = (layout.members, *array.shape[2:])
        self._array = array
        self._layout = layout
        self._last: tuple[int, Tensor] | None = None  # an image, and all its K

    def read(self, start: int, stop: int) -> Tensor:
        """Read members ``start`` to ``stop`` as a CPU tensor of the stored dtype."""
        stop = min(stop, self.shape[0])
        if start >= stop:
            return self._array.read(0, 0).flatten(0, 1)
        first, end = self._layout.images(start, stop)
        images = self._images(first, end)
        there = torch.arange(images.shape[1]) < self._layout.count[first:end, None]
        rows = images.flatten(0, 1) if bool(there.all()) else images[there]
        lead = self._layout.start(first)
        return rows[start - lead : stop - lead]

    def _images(self, first: int, end: int) -> Tensor:
        last, self._last = self._last, None
        kept = last is not None and last[0] == first
        parts = [last[1]] if kept and last is not None else []
        if first + kept < end:
            parts.append(self._array.read(first + kept, end))
        images = parts[0] if len(parts) == 1 else torch.cat(parts)
        self._last = end - 1, images[-1:].clone() if end - first > 1 else images
        return images


class MemberHashes:
    """A digest of each member (M,) int64: of the input of its image, and its place there."""

    def __init__(self, hashes: Rows, place: Rows | None, layout: Layout) -> None:
        self.shape = (layout.members,)
        self._hashes = hashes
        self._place = place  # (M, 2), for members that are found by it
        self._layout = layout

    def read(self, start: int, stop: int) -> Tensor:
        """Mix the digests of members ``start`` to ``stop``."""
        stop = min(stop, self.shape[0])
        if start >= stop:
            return torch.empty(0, dtype=torch.int64)
        first, end = self._layout.images(start, stop)
        count = self._layout.count[first:end]
        lead = self._layout.start(first)
        of_image = self._hashes.read(first, end).repeat_interleave(count)[start - lead :]
        of_image = of_image[: stop - start]
        if self._place is None:
            begin = (self._layout.ends[first:end] - count).repeat_interleave(count)
            number = torch.arange(start, stop) - begin[start - lead : stop - lead]
        else:
            row, column = self._place.read(start, stop).long().unbind(1)
            number = (row << 32) + column
        return (of_image ^ ((number + 1) * _ODD)) * _ODD


def member_rows(rows: Mapping[Key, Rows], unit: Unit, name: str) -> tuple[dict[Key, Rows], Layout]:
    """Give the arrays of a unit, by the keys that images have, and their layout.

    Raises:
        DataError: No image has a member.
    """
    layout = Layout(rows[Key("count", unit=unit)].read(0, rows[Key("count", unit=unit)].shape[0]))
    if not layout.members:
        raise DataError(
            f"{name}: at least one image must have a {unit}, got none in {len(layout.count)} "
            "images; lower boxes.score_threshold, or look at the model and the transform"
        )
    flat: dict[Key, Rows] = {
        Key(key.kind, key.layer): MemberRows(array, layout)
        for key, array in rows.items()
        if key.unit == unit and "K" in key.axes
    }
    if HASHES in rows:
        place = flat.get(Key("place"))
        flat[HASHES] = MemberHashes(rows[HASHES], place, layout)
    return flat, layout
