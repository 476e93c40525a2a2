"""Patches of the two photographs that scikit-learn ships: natural textures without a download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from latentood.data.synthetic import Pixels, Synthetic
from latentood.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class PhotoPatches(Synthetic):
    """Random patches of random size, shrunk to ``shape`` by averaging, in [-1, 1].

    Args:
        length: How many patches, ≥ 0.
        shape: (C, H, W) with C = 3, or C = 1 for grey; at most 427 × 640 positions.
        seed: Other seeds give other patches, ≥ 0.

    Raises:
        ConfigError: An argument is outside its range.
    """

    def __init__(self, length: int, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(length, shape, seed)
        channels, height, width = self.shape
        if channels not in (1, 3):
            raise ConfigError(
                f"PhotoPatches: shape must have 1 (grey) or 3 (colour) channels, got {channels}; "
                "use GaussianNoise for other numbers of channels"
            )
        _, tallest, widest = photos(grey=channels == 1)[0].shape
        self.largest_step = min(tallest // height, widest // width)
        if self.largest_step < 1:
            raise ConfigError(
                f"PhotoPatches: shape must be at most {tallest} × {widest}, got {height} × {width};"
                " make smaller patches and resize them with a transform"
            )

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one patch: photograph, size and place are all uniform."""
        channels, height, width = self.shape
        choice = photos(grey=channels == 1)
        photo = choice[random.integers(len(choice))]
        step = int(random.integers(1, self.largest_step + 1))
        top = int(random.integers(photo.shape[1] - height * step + 1))
        left = int(random.integers(photo.shape[2] - width * step + 1))
        patch = photo[:, top : top + height * step, left : left + width * step]
        pixels: Pixels = patch.reshape(channels, height, step, width, step).mean(axis=(2, 4))
        return pixels


@cache
def photos(*, grey: bool) -> tuple[Pixels, ...]:
    """Read the photographs as (C, 427, 640) in [-1, 1]."""
    from sklearn.datasets import load_sample_images  # slow to import, and only this needs it

    colour = [np.asarray(image) / 127.5 - 1 for image in load_sample_images().images]
    if grey:
        return tuple((image @ LUMA)[None] for image in colour)
    return tuple(image.transpose(2, 0, 1) for image in colour)
