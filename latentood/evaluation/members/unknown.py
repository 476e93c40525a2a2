"""How well unknown objects are detected by scores: boxes at a threshold, components of pixels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentood.errors import ConfigError, DataError
from latentood.evaluation.members.boxes import Detections
from latentood.evaluation.members.coco import known_average_precision
from latentood.evaluation.members.components import (
    Components,
    compare_components,
    pixel_f1_threshold,
)
from latentood.evaluation.members.histograms import ScoreHistogram
from latentood.evaluation.members.maps import Scale, maps_and_masks
from latentood.evaluation.members.open_set import open_set
from latentood.evaluation.metrics import Array
from latentood.evaluation.truth import Boxes, Pixels


def detections_of(
    scores: Array, boxes: Boxes, image: NDArray[np.int64], images: int, threshold: float
) -> list[Detections]:
    """Mark the boxes whose score is above a threshold as unknown, image by image.

    Such a box has its score in the place of the confidence: it orders the boxes that are marked,
    for the average precision of unknown objects, and is compared with no confidence.

    Args:
        scores: (M,) of all boxes, higher = more OOD.
        boxes: The boxes.
        image: (M,) the image of each, ascending.
        images: N.
        threshold: Largest score of a box that is taken as known.
    """
    unknown = scores > threshold
    whole = boxes.xyxy, boxes.predictions, np.where(unknown, scores, boxes.confidence), unknown
    ends = np.searchsorted(image, np.arange(1, images))
    parts = zip(*(np.split(column, ends) for column in whole), strict=True)
    return [Detections(*part) for part in parts]


def open_set_of(
    scores: Array, boxes: Boxes, image: NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """Give the open-set metrics of a detector on a split, and the AP of the known objects.

    Args:
        scores: (M,) of all boxes, higher = more OOD.
        boxes: The boxes, with the true objects of all images.
        image: (M,) the image of each, ascending.
        threshold: Chosen on other rows.

    Returns:
        ``threshold``, the metrics of :class:`open_set.OpenSet`, and ``ap_known`` and
        ``ap50_known`` of the boxes that are not marked; these two are None, and ``note`` says
        why, where pycocotools is not installed or no object is known.
    """
    objects = boxes.objects or ()
    detections = detections_of(scores, boxes, image, len(objects), threshold)
    metrics = asdict(open_set(detections, objects))
    known: dict[str, float | None]
    try:
        known, note = {**known_average_precision(detections, objects)}, ""
    except (ConfigError, DataError) as error:
        known, note = {"ap": None, "ap50": None}, str(error)
    named = {f"{name}_known": value for name, value in known.items()}
    return {"threshold": threshold, **metrics, **named, "note": note}


def components_of(
    scores: Array, pixels: Pixels, scale: Scale, histogram: ScoreHistogram
) -> dict[str, float]:
    """Give the metrics of the components of a detector on a split.

    At the threshold of :func:`components.pixel_f1_threshold`, which the benchmark chooses on the
    images that it reports: its numbers compare with others chosen alike. Components of any size
    count.

    Args:
        scores: (M,) of all cells, higher = more OOD.
        pixels: The pixels of all images.
        scale: That of the metrics of pixels.
        histogram: Of these pixels, scaled.

    Returns:
        ``threshold`` as a score, ``siou``, ``ppv`` and ``mean_f1``, and how many components are
        true (``n_true``) and predicted (``n_predicted``).
    """
    threshold = pixel_f1_threshold(histogram)
    whole = Components.of(
        compare_components(one, mask, threshold)
        for one, mask in maps_and_masks(scores, pixels, scale)
    )
    counts = {"n_true": len(whole.siou), "n_predicted": len(whole.ppv)}
    return {"threshold": float(scale.undo(threshold)), **whole.summary(), **counts}
