"""Intersection over union and accuracy of pixels."""

import pytest
import torch
from torch import nn

from latentood.training.measures import PixelMeasure
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES


def measured(logits, masks, classes=4, batch=2):
    network = Network(nn.Identity(), OBJECTIVES.build("pixel_cross_entropy"), classes=classes)
    measure = PixelMeasure(classes, 255)
    for first in range(0, len(masks), batch):
        rows = slice(first, first + batch)
        measure.add(network, logits[rows], masks[rows])
    return measure.values()


@pytest.mark.parametrize("batch", [1, 5])
def test_it_is_that_of_sets_of_pixels(batch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 6, 7, generator=generator)
    logits[:, 3] = -9
    masks = torch.randint(3, (5, 6, 7), generator=generator)
    masks[0, 2] = 255
    values = measured(logits, masks, batch=batch)
    pixels = [
        (label, int(logits[image, :, y, x].argmax()), (image, y, x))
        for image, mask in enumerate(masks.tolist())
        for y, line in enumerate(mask)
        for x, label in enumerate(line)
        if label != 255
    ]
    shares = []
    for one in range(3):  # no pixel is of class 3 or predicted to be
        labelled = {place for label, _, place in pixels if label == one}
        predicted = {place for _, label, place in pixels if label == one}
        shares.append(len(labelled & predicted) / len(labelled | predicted))
    assert values["miou"] == pytest.approx(sum(shares) / 3, abs=1e-12)
    right = sum(label == predicted for label, predicted, _ in pixels)
    assert values["accuracy"] == pytest.approx(right / len(pixels), abs=1e-12)


def test_what_is_predicted_where_pixels_are_ignored_does_not_count():
    masks = torch.tensor([[[0, 1], [255, 255]]])
    logits = torch.eye(4)[torch.tensor([[[0, 1], [3, 2]]])].movedim(3, 1)
    assert measured(logits, masks) == {"miou": 1.0, "accuracy": 1.0}


def test_a_class_that_is_predicted_but_nowhere_counts_as_0():
    masks = torch.tensor([[[0, 0], [0, 0]]])
    logits = torch.eye(4)[torch.tensor([[[0, 0], [0, 2]]])].movedim(3, 1)
    assert measured(logits, masks) == {"miou": 0.375, "accuracy": 0.75}
