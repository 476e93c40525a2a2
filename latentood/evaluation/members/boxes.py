"""Detected boxes and the objects that are there, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentood.errors import DataError
from latentood.evaluation.metrics.counts import as_array
from latentood.latents.facts import IGNORED
from latentood.stats.boxes import nearest_object, overlaps

Classes: TypeAlias = NDArray[np.int64]
OVERLAP = 0.5
"""Least intersection over union of a detection and the object that it is of."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector gave for one image; arrays or tensors.

    Attributes:
        xyxy: (D, 4) corners, x before y.
        label: (D,) predicted known classes.
        confidence: (D,), higher is surer.
        unknown: (D,) whether its OOD score is above the threshold: then it is a detection of an
            unknown object, whatever its label.
    """

    xyxy: Any
    label: Any
    confidence: Any
    unknown: Any

    def __post_init__(self) -> None:
        _convert(self, xyxy=np.float64, label=np.int64, confidence=np.float64, unknown=np.bool_)
        if not np.isfinite(self.confidence).all():
            raise DataError(
                "detections: confidence must be finite, got "
                f"{self.confidence[~np.isfinite(self.confidence)][0]}; look at the detector"
            )


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image; arrays or tensors.

    Attributes:
        xyxy: (G, 4) corners, x before y.
        label: (G,) classes; those of unknown and of ignored objects are not looked at.
        ood: (G,) 0 known, 1 unknown, 255 ignore.
    """

    xyxy: Any
    label: Any
    ood: Any

    def __post_init__(self) -> None:
        _convert(self, xyxy=np.float64, label=np.int64, ood=np.int64)
        wrong = ~np.isin(self.ood, (0, 1, IGNORED))
        if wrong.any():
            raise DataError(
                f"objects: ood must be 0 (known), 1 (unknown) or {IGNORED} (ignore), got "
                f"{self.ood[wrong][0]}; map the values first"
            )


def match_boxes(xyxy: Any, objects: Objects, iou: float = OVERLAP) -> NDArray[np.uint8]:
    """Say whether each detection of an image is of a known or of an unknown object.

    A detection is of the object that it overlaps most, if by ``iou`` or more; of overlaps that are
    equal the first object is taken. Several detections may be of one object, and labels do not
    matter: the question is what a box shows.

    Args:
        xyxy: (D, 4) detected boxes.
        objects: The objects of the image.
        iou: Least intersection over union, in (0, 1].

    Returns:
        (D,) ``ood`` of each detection: 0 known, 1 unknown; 255 (never counted) where it is of an
        ignored object or of none, that is, of the background.

    Raises:
        DataError: Boxes are not (D, 4), or ``iou`` is not in (0, 1].
    """
    nearest = nearest_object(overlaps(xyxy, objects.xyxy), iou)
    return np.append(objects.ood, IGNORED)[nearest].astype(np.uint8)


def _convert(boxes: Any, **kinds: Any) -> None:
    """Make arrays of the fields of a frozen dataclass, of one length each."""
    for name, kind in kinds.items():
        array = np.asarray(as_array(getattr(boxes, name)), dtype=kind)
        shape = (-1, 4) if name == "xyxy" and array.size == 0 else array.shape
        object.__setattr__(boxes, name, array.reshape(shape))
    shapes = {name: getattr(boxes, name).shape for name in kinds}
    number = len(boxes.xyxy)
    if any(
        shape != ((number, 4) if name == "xyxy" else (number,)) for name, shape in shapes.items()
    ):
        raise DataError(
            f"{type(boxes).__name__.lower()}: xyxy must be (n, 4) and the rest (n,), got "
            f"{shapes}; give one of each per box"
        )
