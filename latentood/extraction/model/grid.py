"""The grid of a segmenter's cells, to which the maps of all layers are brought."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from latentood.errors import ConfigError, ModelError
from latentood.extraction.model.reductions import Reduction, Shape
from latentood.plugins import plugin


@dataclass(frozen=True)
class Grid:
    """Cells of equal size that cover an image, row after row.

    A map that is finer than the grid becomes the mean over the area of each cell, a coarser one
    is interpolated bilinearly between the centres of its positions. Both keep sums of channels:
    what a 1×1 convolution makes of cells is the cell of what it makes of a map.
    """

    rows: int
    columns: int

    @classmethod
    def over(cls, image: tuple[int, ...], stride: int) -> Grid:
        """Divide images (…, H, W) into cells of ``stride`` × ``stride`` pixels.

        Raises:
            ConfigError: The stride does not divide H and W.
        """
        height, width = image[-2:]
        if len(image) < 2 or height % stride or width % stride:
            raise ConfigError(
                f"cells.stride: must divide the height and the width of an image, got {stride} "
                f"for {tuple(image)}; choose another, or add torchvision.transforms.v2.Pad to the "
                "transform, which fills masks with the label to ignore"
            )
        return cls(height // stride, width // stride)

    @property
    def cells(self) -> int:
        """K, how many there are."""
        return self.rows * self.columns

    @property
    def reduction(self) -> CellFeatures:
        """Brings the maps of a layer to the grid."""
        return CellFeatures(rows=self.rows, columns=self.columns)

    def bring(self, maps: Tensor) -> Tensor:
        """Bring maps (B, C, h, w) to the grid: (B, K, C)."""
        height, width = maps.shape[-2:]
        size = (self.rows, self.columns)
        if (height, width) == size:
            on_grid = maps
        elif height % self.rows == 0 and width % self.columns == 0:
            on_grid = F.avg_pool2d(maps, (height // self.rows, width // self.columns))
        elif height >= self.rows and width >= self.columns:
            on_grid = F.adaptive_avg_pool2d(maps, size)
        else:
            on_grid = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        return on_grid.flatten(2).transpose(1, 2)


@plugin
class CellFeatures(Reduction):
    """The channels of a map at every cell of a grid; not among those that a pipeline names."""

    name = "cells"
    rows: int = 1
    columns: int = 1

    @property
    def grid(self) -> Grid:
        """The grid."""
        return Grid(self.rows, self.columns)

    def apply(self, x: Tensor) -> Tensor:
        """Bring maps to the grid: (B, C, h, w) → (B, K, C)."""
        return self.grid.bring(x)

    def shape(self, row: Shape) -> Shape:
        """Give cells and channels."""
        if len(row) != 3:
            raise ModelError(
                f"unit cell: layers must give maps (B, C, H, W), got {row} per row; remove it from "
                "layers:, or name a layer before positions are lost"
            )
        return self.grid.cells, row[0]
