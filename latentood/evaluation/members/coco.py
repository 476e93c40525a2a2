"""The average precision of known objects, by the tools of COCO."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from latentood.errors import ConfigError, DataError
from latentood.evaluation.members.boxes import Detections, Objects, match_boxes
from latentood.evaluation.metrics.counts import Array
from latentood.latents.facts import IGNORED

_ALL = ((-np.inf, np.inf),)  # areas that count: COCO drops false boxes whose corners are swapped


def known_average_precision(
    detections: Sequence[Detections], objects: Sequence[Objects]
) -> dict[str, float]:
    """Give the mean average precision of the known classes, as pycocotools computes it.

    Detections that are marked unknown are none of known objects, and unknown objects are not
    there: a detection of one as known is false. Ignored objects are left out, and detections
    that overlap them most, by 0.5 or more. Departures: all detections count, where COCO takes at
    most 100 of an image; areas are not told apart.

    Args:
        detections: Of each image.
        objects: Of each image.

    Returns:
        ``ap``, the mean over intersections over union 0.50, 0.55 … 0.95, and ``ap50``, at 0.5;
        both in [0, 1], and means over the classes that have an object.

    Raises:
        ConfigError: pycocotools, of the extra ``[boxes]``, is not installed.
        DataError: There is no known object, or the two differ in length.
    """
    if len(detections) != len(objects):
        raise DataError(
            "average precision: needs detections and objects of the same images, got "
            f"{len(detections)} and {len(objects)}; give one of each per image"
        )
    there = [_table(n, one.xyxy, one.label, one.ood == 0) for n, one in enumerate(objects)]
    truth = np.concatenate([np.zeros((0, 7)), *there])
    if not len(truth):
        raise DataError(
            "average precision: needs known objects, got none; look at the ood values of objects"
        )
    given = np.concatenate(
        [_detected(n, *pair) for n, pair in enumerate(zip(detections, objects, strict=True))]
    )
    if not len(given):
        return {"ap": 0.0, "ap50": 0.0}
    precision = _precision(truth, given, len(objects))
    return {"ap": float(precision.mean()), "ap50": float(precision[0].mean())}


def _detected(image: int, detections: Detections, objects: Objects) -> Array:
    """Give the detections as known of an image that count, as rows of COCO's results."""
    ignored = Objects(objects.xyxy, objects.label, np.where(objects.ood == IGNORED, 1, 0))
    kept = ~detections.unknown & (match_boxes(detections.xyxy, ignored) != 1)
    return _table(image, detections.xyxy, detections.label, kept, detections.confidence)


def _table(image: int, xyxy: Array, label: Any, kept: Any, confidence: Any = None) -> Array:
    """Give some boxes of an image as (image, x, y, width, height, confidence, label): (n, 7)."""
    number = len(xyxy)
    columns = (
        np.full((number, 1), image),
        xyxy[:, :2],
        xyxy[:, 2:] - xyxy[:, :2],
        np.ones((number, 1)) if confidence is None else confidence[:, None],
        label[:, None],
    )
    table: Array = np.concatenate(columns, axis=1)[kept]
    return table


def _precision(truth: Array, given: Array, images: int) -> Array:
    """Run pycocotools: the precision at each overlap, recall and class, (10, 101, classes)."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError:
        raise ConfigError(
            "average precision: needs the package 'pycocotools' of the extra [boxes], which is "
            "not installed; run pip install 'latentood[boxes]'"
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        objects = COCO()
        objects.dataset = _dataset(truth, images)
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(given), "bbox")
        evaluation.params.maxDets = [len(given)]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = _ALL, ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: Array = evaluation.eval["precision"][..., 0, 0]
    return precision


def _dataset(truth: Array, images: int) -> dict[str, Any]:
    """Write objects as an annotation file of COCO holds them; ids start at 1."""
    rows = [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(label),
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for number, (image, *box, _, label) in enumerate(truth.tolist(), start=1)
    ]
    return {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in sorted({row["category_id"] for row in rows})],
        "annotations": rows,
    }
