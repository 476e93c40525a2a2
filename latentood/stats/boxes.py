"""Boxes that overlap: which object a detection is of."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from latentood.errors import DataError

Array: TypeAlias = NDArray[np.float64]


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

    pair = [torch.as_tensor(one).double().cpu().reshape(-1, 4) for one in (detected, objects)]
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
