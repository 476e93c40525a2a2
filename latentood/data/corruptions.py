"""Three of the corruptions of Hendrycks, Dietterich 2019 (arXiv:1903.12261), of any data set.

The strength of each severity is that of the published CIFAR-10-C, or ImageNet-C with
``scale: imagenet``. One departure: values are rounded to whole numbers, where the published
images were cut off. The corrupted data sets themselves are array files, for
:class:`~latentood.data.arrays.Arrays`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from latentood.data.corrupted import Corrupted, OnPixels
from latentood.errors import ConfigError, unknown

SEVERITIES = range(1, 6)


class Severe(Corrupted):
    """A corruption in five severities; labels are kept.

    Args:
        source: A map-style data set of PIL images or uint8 tensors (C, H, W).
        severity: From 1, slight, to 5, strong.
        scale: ``cifar`` for images of about 32 × 32, ``imagenet`` for about 224 × 224.

    Raises:
        ConfigError: No such severity.
        UnknownName: No such scale.
    """

    strengths: ClassVar[Mapping[str, Sequence[float]]]
    """Scale → strength by severity."""
    corrupt: ClassVar[Callable[..., Tensor]]
    """uint8 (C, H, W), strength → the same."""

    def __init__(self, source: Any, severity: int = 3, scale: str = "cifar") -> None:
        who = type(self).__name__
        if scale not in self.strengths:
            raise unknown(f"scale of {who}", scale, self.strengths)
        if severity not in SEVERITIES:
            raise ConfigError(f"{who}: severity must be from 1 to 5, got {severity}; 3 is usual")
        strength = self.strengths[scale][severity - 1]
        function = partial(type(self).corrupt, strength=strength)
        super().__init__(source, OnPixels(function, whole=True))


def blur(image: Tensor, strength: float) -> Tensor:
    """Blur with a Gaussian of standard deviation ``strength`` in pixels, cut at 4 of them.

    The border is mirrored, where the images of the paper repeat the last pixel.
    """
    from torchvision.transforms.v2 import functional as F

    # (width, height), and no wider than a mirror reaches
    sides = [2 * min(int(4 * strength + 0.5), side - 1) + 1 for side in image.shape[:0:-1]]
    blurred: Tensor = F.gaussian_blur(image, sides, [strength, strength])
    return blurred


def compress(image: Tensor, strength: float) -> Tensor:
    """Write as JPEG of quality ``strength`` and read again."""
    from torchvision.transforms.v2 import functional as F

    file = io.BytesIO()
    F.to_pil_image(image).save(file, "JPEG", quality=int(strength))
    read: Tensor = F.pil_to_tensor(Image.open(file))
    return read


def fade(image: Tensor, strength: float) -> Tensor:
    """Shrink the distance of every value to the mean of its channel to a share ``strength``."""
    values = image.double()
    mean = values.mean(dim=(1, 2), keepdim=True)
    faded = (values - mean) * strength + mean
    return faded.round().clamp(0, 255).to(image.dtype)


class Blurred(Severe):
    """Gaussian blur."""

    strengths: ClassVar = {"cifar": (0.4, 0.6, 0.7, 0.8, 1.0), "imagenet": (1, 2, 3, 4, 6)}
    corrupt = staticmethod(blur)


class Jpeg(Severe):
    """JPEG artefacts; strength is the quality."""

    strengths: ClassVar = {"cifar": (80, 65, 58, 50, 40), "imagenet": (25, 18, 15, 10, 7)}
    corrupt = staticmethod(compress)


class Contrast(Severe):
    """Lower contrast; strength is the share of it that stays."""

    strengths: ClassVar = {
        "cifar": (0.75, 0.5, 0.4, 0.3, 0.15),
        "imagenet": (0.4, 0.3, 0.2, 0.1, 0.05),
    }
    corrupt = staticmethod(fade)
