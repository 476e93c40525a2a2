"""Data sets whose images are changed by a function: shuffled, turned, or any that is given.

They take images as files and arrays give them, PIL images or tensors (C, H, W), and give the same
kind back, before the pipeline's transform. Every image comes from (seed, index) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentood.data.derived import Derived
from latentood.data.items import NO_LABEL
from latentood.errors import ConfigError, DataError


class Corrupted(Derived):
    """Images of another data set, each put through a function.

    Args:
        source: A map-style data set.
        function: Image → image, for instance any of torchvision's v2 transforms. What it draws
            from torch's random numbers depends on seed and index alone.
        seed: Other seeds draw otherwise, ≥ 0.
        labelled: Keep the labels; ``false`` where a changed image no longer shows its class.

    Raises:
        ConfigError: The source has no length, the function cannot be called, or a bad seed.
    """

    def __init__(
        self,
        source: Any,
        function: Callable[[Any], Any],
        seed: int = 0,
        labelled: bool = True,
    ) -> None:
        super().__init__(source)
        who = type(self).__name__
        if not callable(function):
            raise ConfigError(
                f"{who}: function must be callable, got {function!r}; name one by target and "
                "args, e.g. torchvision.transforms.v2.GaussianBlur"
            )
        if seed < 0:
            raise ConfigError(f"{who}: seed must be ≥ 0, got {seed}; 0 is the default")
        self.function = function
        self.seed = seed
        self.labelled = labelled

    def change(self, value: Any, index: int) -> Any:
        """Apply the function, with random numbers of its own."""
        stream = np.random.SeedSequence(self.seed, spawn_key=(index,))
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: it seeds the GPUs too, which would not be put back.
            torch.default_generator.manual_seed(int(stream.generate_state(1, np.uint64)[0]))
            return self.function(value)

    def relabel(self, label: Any) -> Any:
        """Drop the label of what no longer shows its class."""
        return label if self.labelled else NO_LABEL


@dataclass(frozen=True)
class OnPixels:
    """A function of a tensor (C, H, W) that takes PIL images too, and then gives them back."""

    function: Callable[[Tensor], Tensor]  # (C, H, W) → (C, H, W)
    whole: bool = False  # take whole numbers from 0 to 255 only

    def __call__(self, image: Any) -> Any:
        """Apply it; DataError for what is no such image."""
        from torchvision.transforms.v2 import functional as F  # slow to import

        if isinstance(image, Image.Image):  # a palette has no pixels to average: RGB
            plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
            return F.to_pil_image(self.function(F.pil_to_tensor(plain)))
        is_tensor = isinstance(image, Tensor)
        if not is_tensor or image.dim() != 3 or (self.whole and image.dtype != torch.uint8):
            kind = f"{image.dtype} {tuple(image.shape)}" if is_tensor else type(image).__name__
            raise DataError(
                f"an image to change must be a PIL image or a {'uint8 ' if self.whole else ''}"
                f"tensor (C, H, W), got {kind}; leave conversions to the pipeline's transform"
            )
        return self.function(image)


class PixelPermutation(Corrupted):
    """Images whose pixels are shuffled, each differently: their colours, without any shape.

    Args:
        source: A map-style data set of images; labels are dropped.
        seed: Other seeds shuffle otherwise, ≥ 0.
    """

    def __init__(self, source: Any, seed: int = 0) -> None:
        super().__init__(source, OnPixels(permute_pixels), seed, labelled=False)


def permute_pixels(image: Tensor) -> Tensor:
    """Shuffle the positions of (C, H, W); the channels of a pixel stay together."""
    order = torch.randperm(image[0].numel())
    return image.flatten(1)[:, order].reshape(image.shape)


class PatchShuffle(Corrupted):
    """Images cut into a grid of patches that change places: textures and parts, not the whole.

    No patch stays where it was. Where a side is no multiple of ``patches``, what is left over on
    the right and at the bottom is cut off.

    Args:
        source: A map-style data set of images; labels are kept.
        patches: Patches along each side, ≥ 2.
        seed: Other seeds shuffle otherwise, ≥ 0.

    Raises:
        ConfigError: An argument is outside its range.
    """

    def __init__(self, source: Any, patches: int = 4, seed: int = 0) -> None:
        if patches < 2:
            raise ConfigError(f"PatchShuffle: patches must be ≥ 2, got {patches}; 4 is the default")
        super().__init__(source, OnPixels(partial(shuffle_patches, patches=patches)), seed)


def shuffle_patches(image: Tensor, patches: int) -> Tensor:
    """Move every patch of a ``patches`` × ``patches`` grid of (C, H, W) to another place."""
    channels, *sides = image.shape
    height, width = (side // patches for side in sides)
    if height < 1 or width < 1:
        raise DataError(
            f"an image must be at least {patches} × {patches} to be cut into as many patches, got "
            f"{sides[0]} × {sides[1]}; lower patches"
        )
    kept = image[:, : height * patches, : width * patches]
    grid = kept.reshape(channels, patches, height, patches, width).movedim(3, 2).flatten(1, 2)
    order = torch.randperm(patches**2)
    moved = torch.empty_like(grid)
    moved[:, order] = grid[:, order.roll(1)]  # along one random cycle through all places
    rows = moved.reshape(channels, patches, patches, height, width).movedim(2, 3)
    return rows.reshape(kept.shape)


class Rotations(Corrupted):
    """Images turned, each by one of some angles.

    Quarter turns are exact and keep the whole image. Others are interpolated bilinearly within
    the frame of the image and leave its corners 0.

    Args:
        source: A map-style data set of images; labels are kept.
        degrees: An angle, or several of which every image gets one at random; counter-clockwise.
        seed: Other seeds draw otherwise, ≥ 0.

    Raises:
        ConfigError: No angle, or a bad seed.
    """

    def __init__(
        self, source: Any, degrees: float | Sequence[float] = (90, 180, 270), seed: int = 0
    ) -> None:
        angles = tuple(degrees) if isinstance(degrees, Sequence) else (degrees,)
        if not angles:
            raise ConfigError(
                "Rotations: degrees must be an angle or several, got none; e.g. [90, 180, 270]"
            )
        super().__init__(source, OnPixels(partial(turn, angles=angles)), seed)


def turn(image: Tensor, angles: Sequence[float]) -> Tensor:
    """Turn (C, H, W) counter-clockwise by one of some angles in degrees."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    angle = angles[int(torch.randint(len(angles), ()))]
    if angle % 90 == 0:
        return torch.rot90(image, int(angle // 90), dims=(1, 2))
    turned: Tensor = F.rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
    return turned
