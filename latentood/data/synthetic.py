"""Images that are made up, the usual far-OOD baselines (Hendrycks et al. 2019, arXiv:1812.04606).

Every image comes from (seed, index) alone, so it is the same whichever rows are read, in
whatever order, by however many workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from latentood.errors import ConfigError

Pixels = NDArray[np.float64]


class Synthetic(ABC):
    """``length`` images (C, H, W), float32 in [-1, 1], each from (seed, index) alone.

    Args:
        length: How many images, ≥ 0.
        shape: (C, H, W).
        seed: Other seeds give other images, ≥ 0.

    Raises:
        ConfigError: An argument is outside its range.
    """

    model_space: ClassVar[bool] = True

    def __init__(self, length: int, shape: Sequence[int], seed: int = 0) -> None:
        who = type(self).__name__
        if length < 0:
            raise ConfigError(f"{who}: length must be ≥ 0, got {length}; 2000 is usual")
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(
                f"{who}: shape must be three numbers ≥ 1 (C, H, W), got {list(shape)}; "
                "give that of the model's input, e.g. [3, 32, 32]"
            )
        if seed < 0:
            raise ConfigError(f"{who}: seed must be ≥ 0, got {seed}; 0 is the default")
        self.length = length
        self.shape = tuple(shape)
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.length:
            raise IndexError(f"{type(self).__name__}: no image {index} of {self.length}")
        stream = np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        pixels = self.draw(np.random.Generator(stream))
        return torch.from_numpy(pixels.astype(np.float32))

    @abstractmethod
    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image (C, H, W) in [-1, 1]."""


class GaussianNoise(Synthetic):
    """Independent pixels from N(0, 0.5²), clipped to [-1, 1]."""

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image."""
        return np.clip(random.normal(0, 0.5, self.shape), -1, 1)


class Uniform(Synthetic):
    """Independent pixels, uniform in [-1, 1]."""

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image."""
        return random.uniform(-1, 1, self.shape)


class ConstantColour(Synthetic):
    """Images of one colour each, uniform in [-1, 1] per channel."""

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image."""
        colour = random.uniform(-1, 1, (self.shape[0], 1, 1))
        return np.broadcast_to(colour, self.shape)


class Rademacher(Synthetic):
    """Independent pixels, -1 or 1 with equal chance."""

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image."""
        return np.where(random.random(self.shape) < 0.5, -1.0, 1.0)


class Blob(Synthetic):
    """Bright amorphous shapes with sharp edges on black.

    Bernoulli(0.7) per pixel and channel, blurred per channel with σ = 1.5; what is below 0.75
    becomes 0; then [0, 1] → [-1, 1].
    """

    def draw(self, random: np.random.Generator) -> Pixels:
        """Draw one image."""
        coins = (random.random(self.shape) < 0.7).astype(np.float64)
        blurred = gaussian_filter(coins, sigma=(0, 1.5, 1.5))
        pixels: Pixels = 2 * np.where(blurred < 0.75, 0, blurred) - 1
        return pixels
