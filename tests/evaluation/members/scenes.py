"""Random detections and objects, with few places so that overlaps and confidences tie."""

import numpy as np

from latentood.evaluation.members.boxes import Detections, Objects


def boxes(rng, number):
    corner = rng.integers(0, 3, (number, 2))
    return np.concatenate([corner, corner + rng.integers(2, 5, (number, 2))], axis=1).tolist()


def scene(rng, *, labels=3):
    """Detections (box, label, confidence, unknown) and objects (box, label, ood) of an image."""
    objects = [
        (box, int(rng.integers(1, labels + 1)), int(rng.choice([0, 0, 1, 255])))
        for box in boxes(rng, rng.integers(0, 5))
    ]
    near = [
        (objects[n % len(objects)][0] if objects and rng.random() < 0.6 else box)
        for n, box in enumerate(boxes(rng, rng.integers(0, 7)))
    ]
    detections = [
        (box, int(rng.integers(1, labels + 1)), int(rng.integers(0, 4)) / 4, rng.random() < 0.4)
        for box in near
    ]
    return detections, objects


def as_boxes(detections, objects):
    columns = list(zip(*detections, strict=True)) or [[]] * 4
    there = list(zip(*objects, strict=True)) or [[]] * 3
    return Detections(*columns), Objects(*there)
