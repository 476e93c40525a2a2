"""Open-set metrics of object detection: are unknown objects detected, and not as known ones.

These are the metrics that FindMeIfYouCan (Montoya et al. 2025, arXiv:2506.14008) reports: WI, AOSE,
nOSE, and AP, precision and recall of unknown objects. They come from Dhamija et al. 2020 (The
Overlooked Elephant of Object Detection; WI), Miller et al. 2018 (arXiv:1710.06677; AOSE), and the
evaluation that Joseph et al. 2021 (ORE, arXiv:2103.02603) and Han et al. 2022 (OpenDet,
arXiv:2203.14911) publish with their code.

Not verified: the text of FindMeIfYouCan was not at hand beyond its abstract. What it calls nOSE is
taken to be AOSE divided by the number of unknown objects, and its AP the area of PASCAL VOC.

A detection whose ``unknown`` is true is one of an unknown object, the others are of the class of
their label. A detection is **right** if it takes an object of its class, an unknown one if it is
marked as unknown, by the greedy matching of COCO (:func:`right_detections`). Departures from
the code of ORE and OpenDet, which all metrics here share: they take the object overlapped most
even if it is taken, count every detection that overlaps any unknown object as open-set error, even
a right one, and have boxes whose corners are pixels that belong to the box. Detections of ignored
objects are never counted, there as here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentood.errors import DataError
from latentood.evaluation.members.boxes import (
    OVERLAP,
    Classes,
    Detections,
    Objects,
)
from latentood.evaluation.metrics.counts import Array
from latentood.latents.facts import IGNORED
from latentood.stats.boxes import nearest_object, overlaps, right_detections

RECALL = 0.8
"""Recall of the known classes at which WI is usually read."""


@dataclass(frozen=True)
class OpenSet:
    """Open-set metrics of a split; NaN where there is nothing to count.

    Attributes:
        wilderness_impact: WI, ≥ 0; 0 is best.
        aose: Absolute open-set error: detections of unknown objects as known ones.
        nose: ``aose`` for each unknown object, ≥ 0; above 1 where several detections are of one.
        ap_unknown: Average precision of unknown objects, in [0, 1].
        precision_unknown: Share of right ones among detections that are marked unknown.
        recall_unknown: Share of unknown objects that have a detection marked unknown.
        n_unknown: How many unknown objects there are.
    """

    wilderness_impact: float
    aose: int
    nose: float
    ap_unknown: float
    precision_unknown: float
    recall_unknown: float
    n_unknown: int


def open_set(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    *,
    iou: float = OVERLAP,
    recall: float = RECALL,
) -> OpenSet:
    """Compute the open-set metrics of a split.

    - AOSE: the detections as known that are of an unknown object (it is the object they overlap
      most, by ``iou`` or more) and not right.
    - WI = P_K / P_{K∪U} − 1 = FP_O / (TP + FP_C), the share by which precision falls as unknown
      objects appear: TP are right detections as known, FP_O are those that AOSE counts, FP_C the
      other wrong ones. Each class is cut at the confidence whose recall is nearest to ``recall``,
      and counts are added over classes, as in ORE. Departure: ORE and OpenDet divide by all
      detections, TP + FP_C + FP_O, which is WI / (1 + WI), and print 100 times that.
    - AP of unknown objects: the area below the precision, made to fall with the recall, of the
      detections marked unknown by falling confidence (PASCAL VOC since 2010). Confidences are
      taken as they are given; a method that has a score for "unknown" object puts it there.
    - Precision and recall of unknown objects are those of all detections that are given.

    Args:
        detections: Of each image.
        objects: Of each image.
        iou: Least intersection over union, in (0, 1].
        recall: Recall of the known classes at which WI is read, in (0, 1].

    Returns:
        The metrics.

    Raises:
        DataError: The two differ in length, or ``iou`` or ``recall`` is out of range.
    """
    if len(detections) != len(objects):
        raise DataError(
            "open set: needs detections and objects of the same images, got "
            f"{len(detections)} and {len(objects)}; give one of each per image"
        )
    if not 0 < recall <= 1:
        raise DataError(f"open set: recall must be in (0, 1], got {recall!r}; 0.8 is usual")
    judged = [_judge(*pair, iou) for pair in zip(detections, objects, strict=True)]
    label, confidence, unknown, right, escaped = (
        np.concatenate(column) for column in zip(_nothing(), *judged, strict=True)
    )
    there = np.concatenate([np.zeros(0, np.int64), *(_known_labels(one) for one in objects)])
    n_unknown = sum(int((one.ood == 1).sum()) for one in objects)
    aose = int(escaped.sum())
    hits = right[unknown][np.argsort(-confidence[unknown], kind="stable")]
    known = ~unknown
    return OpenSet(
        _wilderness_impact(
            label[known], confidence[known], right[known], escaped[known], there, recall
        ),
        aose,
        _share(aose, n_unknown),
        _average_precision(hits, n_unknown),
        _share(int(hits.sum()), len(hits)),
        _share(int(hits.sum()), n_unknown),
        n_unknown,
    )


_Judged = tuple[Classes, Array, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]


def _judge(detections: Detections, objects: Objects, iou: float) -> _Judged:
    """Give label, confidence, unknown, right and escaped of the detections that count."""
    overlap = overlaps(detections.xyxy, objects.xyxy)
    same = (detections.label[:, None] == objects.label) & (objects.ood == 0)
    allowed = np.where(detections.unknown[:, None], objects.ood == 1, same)
    right = right_detections(overlap, allowed, detections.confidence, iou)
    nearest = np.append(objects.ood, -1)[nearest_object(overlap, iou)]
    counts = right | (nearest != IGNORED)
    escaped = (nearest == 1) & ~right & ~detections.unknown
    columns = detections.label, detections.confidence, detections.unknown, right, escaped
    label, confidence, unknown, right, escaped = (column[counts] for column in columns)
    return label, confidence, unknown, right, escaped


def _nothing() -> _Judged:
    """Give what there is without an image."""
    none = np.zeros(0, np.bool_)
    return np.zeros(0, np.int64), np.zeros(0), none, none, none


def _known_labels(objects: Objects) -> Classes:
    labels: Classes = objects.label[objects.ood == 0]
    return labels


def _wilderness_impact(
    label: Classes,
    confidence: Array,
    right: NDArray[np.bool_],
    escaped: NDArray[np.bool_],
    there: Classes,
    recall: float,
) -> float:
    """Give WI from the detections as known (D,) and the labels of known objects."""
    closed = opened = 0
    for one, number in zip(*np.unique(there, return_counts=True), strict=True):
        rows = np.flatnonzero(label == one)
        if not len(rows):
            continue
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        reached = np.cumsum(right[rows]) / number
        stop = int(np.abs(reached - recall).argmin()) + 1  # the first of those that are equal
        opened += int(escaped[rows[:stop]].sum())
        closed += stop - int(escaped[rows[:stop]].sum())
    return _share(opened, closed)


def _average_precision(hits: NDArray[np.bool_], objects: int) -> float:
    if not objects:
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    return float(highest[hits].sum()) / objects


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
