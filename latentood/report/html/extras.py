"""What a report shows beyond the results files: it needs the features, or the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation.metrics import Array

if TYPE_CHECKING:
    from latentood.evaluation.choice.convergence import Point

ImageOf = Callable[[str, int], NDArray[np.float64]]
"""Split and row → the input (C, H, W) or (H, W)."""


@dataclass(frozen=True)
class Projection:
    """Features of some rows in two dimensions."""

    name: str
    about: str
    xy: Array  # (P, 2), split after split


@dataclass(frozen=True)
class Reliability:
    """Accuracy of the ID predictions by their confidence, in bins of equal width."""

    rows: tuple[int, ...]
    confidence: tuple[float, ...]  # mean of a bin; NaN where it is empty
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Extras:
    """Whatever of it there is; ``missing`` says of each panel why it is not there."""

    points: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)  # split → rows
    projections: Sequence[Projection] = ()
    convergence: Sequence[Point] = ()
    reliability: Reliability | None = None
    predictions: Mapping[str, float] = field(default_factory=dict)
    image_of: ImageOf | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
