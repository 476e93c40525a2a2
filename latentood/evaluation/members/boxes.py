"""Detected boxes and the objects that are there, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from latentood.errors import DataError
from latentood.evaluation.members.counts import Array
from latentood.latents.facts import IGNORED

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


def nearest_object(overlap: Array, iou: float) -> NDArray[np.intp]:
    """Give the object that each detection overlaps most, −1 where it is less than ``iou``: (D,).

    Args:
        overlap: (D, G) intersections over union.
        iou: Least one, in (0, 1].
    """
    if not 0 < iou <= 1:
        raise DataError(f"boxes: iou must be in (0, 1], got {iou!r}; 0.5 is usual")
    padded = np.concatenate([overlap, np.full((len(overlap), 1), -1.0)], axis=1)
    nearest = padded.argmax(axis=1)  # the first of those that are equal
    return np.where(padded.max(axis=1) >= iou, nearest, -1)


def overlaps(detected: Any, objects: Any) -> Array:
    """Give the intersection over union of every detection and every object: (D, G)."""
    from torchvision.ops import box_iou

    pair = [torch.as_tensor(_array(one)).double().reshape(-1, 4) for one in (detected, objects)]
    result: Array = box_iou(*pair).numpy()  # NaN for two boxes without area, which is less than any
    return result


def right_detections(
    overlap: Array, allowed: NDArray[np.bool_], confidence: Array, iou: float
) -> NDArray[np.bool_]:
    """Say which detections of an image are of an object that no better one is of: (D,).

    As in the evaluation of COCO: from the highest confidence on, each takes the free object that
    it overlaps most, if by ``iou`` or more; of equal ones the first.

    Args:
        overlap: (D, G) intersections over union.
        allowed: (D, G) objects that a detection may be of.
        confidence: (D,).
        iou: Least intersection over union, in (0, 1].
    """
    free = np.where(allowed, overlap, 0.0)  # of objects that are taken it becomes 0
    right = np.zeros(len(free), np.bool_)
    if not free.size:
        return right
    candidates = free.max(axis=1) >= iou
    for row in np.argsort(-confidence, kind="stable"):
        if not candidates[row]:
            continue
        nearest = free[row].argmax()
        if free[row, nearest] >= iou:
            right[row] = True
            free[:, nearest] = 0
    return right


def _convert(boxes: Any, **kinds: Any) -> None:
    """Make arrays of the fields of a frozen dataclass, of one length each."""
    for name, kind in kinds.items():
        array = np.asarray(_array(getattr(boxes, name)), dtype=kind)
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


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
