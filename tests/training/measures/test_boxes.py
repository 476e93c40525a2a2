"""Average precision against a slow form of its definition."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from latentood.training.measures import DetectionMeasure
from tests.references.members import iou


def slow_ap50(detections, objects):
    """AP50 in loops: lists of (label, score, box) and of (label, box) for each image."""
    values = []
    for label in sorted({label for image in objects for label, _ in image}):
        ranked = sorted(
            (
                (-score, image, place, box)
                for image, rows in enumerate(detections)
                for place, (one, score, box) in enumerate(rows)
                if one == label
            ),
            key=lambda row: row[:3],
        )
        free = {
            (image, place): box
            for image, rows in enumerate(objects)
            for place, (one, box) in enumerate(rows)
            if one == label
        }
        total, right, points = len(free), 0, []
        for seen, (_, image, _, box) in enumerate(ranked, start=1):
            overlaps = {key: iou(box, other) for key, other in free.items() if key[0] == image}
            best = max(overlaps, key=overlaps.get, default=None)
            if best is not None and overlaps[best] >= 0.5:
                right += 1
                del free[best]
            points.append((Fraction(right, total), Fraction(right, seen)))
        heights = [
            max((p for recall, p in points if recall >= Fraction(step, 100)), default=0)
            for step in range(101)
        ]
        values.append(sum(heights) / Fraction(101))
    return float(sum(values) / len(values))


class Recorded(nn.Module):
    """A detector whose detections are given."""

    def forward(self, detections):
        return detections


def measured(detections, objects, batch=2):
    measure = DetectionMeasure()
    given = [
        {
            "labels": torch.tensor([row[0] for row in rows], dtype=torch.int64),
            "scores": torch.tensor([row[1] for row in rows]),
            "boxes": torch.tensor([row[2] for row in rows]).reshape(-1, 4),
        }
        for rows in detections
    ]
    wanted = [
        {
            "labels": torch.tensor([row[0] for row in rows], dtype=torch.int64),
            "boxes": torch.tensor([row[1] for row in rows]).reshape(-1, 4),
        }
        for rows in objects
    ]
    for first in range(0, len(given), batch):
        rows = slice(first, first + batch)
        measure.add(Recorded(), given[rows], wanted[rows])
    return measure.values()


def draw(seed, images=6):
    generator = torch.Generator().manual_seed(seed)

    def box():
        corner = 20 * torch.rand(2, generator=generator)
        return torch.cat([corner, corner + 5 + 10 * torch.rand(2, generator=generator)])

    def label():
        return int(torch.randint(1, 4, (), generator=generator))

    detections, objects = [], []
    for image in range(images):
        rows = [(label(), box().tolist()) for _ in range(image)]
        near = [
            (one, float(torch.rand((), generator=generator)),
             (torch.tensor(place) + torch.randn(4, generator=generator)).tolist())
            for one, place in rows * 2
        ]  # fmt: skip
        far = [(label(), float(torch.rand((), generator=generator)), box().tolist())] * 2
        objects.append(rows)
        detections.append(near + far if image != 4 else [])
    return detections, objects


@pytest.mark.parametrize("seed", range(20))
def test_it_is_that_of_a_slow_reference(seed):
    detections, objects = draw(seed)
    value = measured(detections, objects)["ap50"]
    assert value == pytest.approx(slow_ap50(detections, objects), abs=1e-12)
    assert 0.1 < value < 0.9


BOX, OTHER = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("detections", "objects", "value"),
    [
        ([[(1, 0.9, BOX)]], [[(1, BOX)]], 1.0),
        ([[(2, 0.9, BOX)]], [[(1, BOX)]], 0.0),
        ([[]], [[(1, BOX)]], 0.0),
        ([[(1, 0.9, BOX)], []], [[(1, BOX)], [(1, BOX)]], 51 / 101),  # recalls up to 0.5
        ([[(1, 0.9, BOX), (1, 0.8, BOX)]], [[(1, BOX)]], 1.0),  # a second one comes too late
        ([[(1, 0.9, OTHER), (1, 0.8, BOX)]], [[(1, BOX)]], 0.5),
        ([[(1, 0.9, BOX), (3, 0.8, BOX)]], [[(1, BOX), (2, OTHER)]], 0.5),
        ([[(1, 0.9, [0.0, 0.0, 10.0, 5.0])]], [[(1, BOX)]], 1.0),  # an overlap of just 0.5
        ([[(1, 0.9, [0.0, 0.0, 10.0, 4.9])]], [[(1, BOX)]], 0.0),
    ],
)
def test_known_cases(detections, objects, value):
    assert measured(detections, objects)["ap50"] == pytest.approx(value, abs=1e-12)


def test_batches_do_not_matter():
    detections, objects = draw(3)
    assert measured(detections, objects, 1) == measured(detections, objects, 6)
