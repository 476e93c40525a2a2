"""How well a segmenter predicts the class of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentood.training.measures.base import Measure


class PixelMeasure(Measure):
    """The mean intersection over union of the classes, and the accuracy of all pixels.

    Both are of one confusion matrix for all pixels of the split (Long et al. 2015,
    arXiv:1411.4038, sec. 5: mean IU and pixel accuracy). Pixels to ignore do not count, whatever
    is predicted there. Departure: the mean is over the classes that some pixel has or is
    predicted to have, since others have no union.

    Args:
        classes: C.
        ignore_index: Label of pixels that do not count.
    """

    ranking: ClassVar[Mapping[str, int]] = {"miou": 1, "accuracy": 1}

    def __init__(self, classes: int, ignore_index: int) -> None:
        self.classes = classes
        self.ignore_index = ignore_index
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)  # label × prediction

    def add(self, network: Any, inputs: Any, targets: Tensor) -> None:
        """Add images (B, …) with masks (B, H, W), for which the network gives (B, C, H, W)."""
        predicted = network.objective.logits(network(inputs), targets).argmax(dim=1)
        kept = targets != self.ignore_index
        pairs = targets[kept] * self.classes + predicted[kept]
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.confusion += counts.reshape(self.classes, self.classes).cpu()

    def values(self) -> dict[str, float]:
        """Give ``miou`` and ``accuracy``, both in [0, 1]."""
        both = self.confusion.diag().double()
        union = self.confusion.sum(dim=0) + self.confusion.sum(dim=1) - both
        there = union > 0
        return {
            "miou": float((both[there] / union[there]).mean()),
            "accuracy": float(both.sum() / self.confusion.sum()),
        }
