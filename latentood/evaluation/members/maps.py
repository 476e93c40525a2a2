"""Scores of cells as maps of pixels, in float16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentood.errors import DataError
from latentood.evaluation.members.histograms import Runs, runs_of
from latentood.evaluation.metrics import Array
from latentood.evaluation.truth import Pixels

_LARGEST = 65504.0  # of float16
_PIXELS = 1 << 22  # of maps made together


@dataclass(frozen=True)
class Scale:
    """A linear map of scores, increasing, after which float16 tells them apart.

    Without it distances of 1e5 would be infinite, and log densities of 1000.1 and 1000.2 equal.
    """

    offset: float
    width: float  # > 0

    @classmethod
    def of(cls, scores: Array) -> Scale:
        """Let the median of scores become 0, and the widest of the inner quarters 1."""
        low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75)).tolist()
        width = max(high - middle, middle - low)
        return cls(middle, width if width > 0 else 1.0)

    def apply(self, scores: Array) -> Tensor:
        """Map scores to float32, within what float16 holds."""
        values = torch.from_numpy((scores - self.offset) / self.width)
        return values.clamp(-_LARGEST, _LARGEST).float()

    def undo(self, values: Any) -> Any:
        """Turn mapped scores back into scores, in float64."""
        return self.offset + self.width * np.asarray(values, dtype=np.float64)


def score_maps(scores: Array, pixels: Pixels, scale: Scale) -> Iterator[Tensor]:
    """Enlarge the scores of cells bilinearly to the size of the masks, some images at a time.

    Args:
        scores: (M,) of all cells of all images, in order.
        pixels: Their grid and masks.
        scale: Brings scores to a range in which float16 is exact enough.

    Yields:
        (n, H, W) float16 each.

    Raises:
        DataError: There is not a score for every cell.
    """
    count, height, width = pixels.masks.shape
    if scores.size != count * pixels.rows * pixels.columns:
        raise DataError(
            f"score maps: there must be a score for each of {pixels.rows} × {pixels.columns} cells "
            f"of {count} images, got {scores.size}; leave cells.sample out for scored splits"
        )
    grids = scale.apply(scores).view(count, pixels.rows, pixels.columns)
    for part in grids.split(images_at_once(height, width)):
        yield enlarge(part, height, width).half()


def images_at_once(height: int, width: int) -> int:
    """Say how many maps are made together, so that they need little memory."""
    return max(1, _PIXELS // (height * width))


def enlarge(grids: Tensor, height: int, width: int) -> Tensor:
    """Bring scores of cells (n, rows, columns) bilinearly to (n, H, W), as metrics do."""
    if grids.shape[1:] == (height, width):
        return grids
    size = (height, width)
    return F.interpolate(grids[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def maps_and_masks(scores: Array, pixels: Pixels, scale: Scale) -> Iterator[tuple[Tensor, Tensor]]:
    """Give each map beside the mask of its image: (H, W) float16 and uint8."""
    start = 0
    for maps in score_maps(scores, pixels, scale):
        masks = pixels.masks.read(start, start + len(maps))
        start += len(maps)
        yield from zip(maps, masks, strict=True)


def pixel_runs(scores: Array, pixels: Pixels, scale: Scale) -> Iterator[tuple[Runs, Runs]]:
    """Count the ID and the OOD pixels of each image by their scores."""
    return (runs_of(*pair) for pair in maps_and_masks(scores, pixels, scale))
