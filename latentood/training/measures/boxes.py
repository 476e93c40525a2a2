"""How well an object detector finds objects: average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentood.stats.boxes import overlaps, right_detections
from latentood.training.measures.base import Measure

OVERLAP = 0.5
"""Least intersection over union of a detection and the object that it is of."""
_RECALLS = np.arange(101)  # in hundredths


class DetectionMeasure(Measure):
    """The mean over classes of the average precision at an intersection over union of 0.5.

    AP50 of the evaluation of COCO (its tools, pycocotools, define it): the detections of an image
    take, from the highest score on, the free object of their class that they overlap most, if by
    0.5 or more; the rest are false. AP is the mean over the recalls 0, 0.01, …, 1 of the highest
    precision at that recall or a higher one. Classes without an object in the split have no part
    in the mean.

    Departures: all detections that the network gives count, where COCO takes at most 100 of an
    image and class; there are no crowds; recalls are compared as whole numbers, without rounding;
    of overlaps that are equal the first object is taken.
    """

    ranking: ClassVar[Mapping[str, int]] = {"ap50": 1}

    def __init__(self) -> None:
        self.detected: list[NDArray[Any]] = []  # (D, 3) each: label, score, whether it is right
        self.objects: list[NDArray[Any]] = []  # (n,) labels each

    def add(self, network: Any, inputs: Any, targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add images with boxes (n, 4) and labels (n,) each."""
        for given, wanted in zip(network(inputs), targets, strict=True):
            right = match(given, wanted)
            columns = given["labels"], given["scores"], right
            self.detected.append(torch.stack([one.double().cpu() for one in columns], 1).numpy())
            self.objects.append(wanted["labels"].cpu().numpy())

    def values(self) -> dict[str, float]:
        """Give ``ap50`` in [0, 1]."""
        labels, scores, right = np.concatenate(self.detected).T
        objects = np.concatenate(self.objects)
        each = [
            average_precision(scores[labels == one], right[labels == one], int(count))
            for one, count in zip(*np.unique(objects, return_counts=True), strict=True)
        ]
        return {"ap50": float(np.mean(each))}


def match(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Say which detections of an image are of an object that no better one is of: (D,) bool.

    Args:
        given: ``boxes`` (D, 4), ``labels`` (D,) and ``scores`` (D,).
        wanted: ``boxes`` (n, 4) and ``labels`` (n,).
    """
    overlap = overlaps(given["boxes"], wanted["boxes"])
    same = (given["labels"][:, None] == wanted["labels"]).cpu().numpy()
    scores = given["scores"].cpu().numpy()
    return torch.from_numpy(right_detections(overlap, same, scores, OVERLAP))


def average_precision(scores: NDArray[Any], right: NDArray[Any], objects: int) -> float:
    """Give the average precision of the detections of one class.

    Args:
        scores: (D,).
        right: (D,), 1 where a detection is of an object.
        objects: How many there are, ≥ 1.
    """
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")]).astype(np.int64)
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    places = np.searchsorted(100 * hits, _RECALLS * objects)
    reached = places[places < len(hits)]
    return float(highest[reached].sum() / len(_RECALLS))
