"""Objectives of networks with more than one prediction per image: segmenters and detectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentood.data.targets import Boxes, Masks
from latentood.errors import ConfigError, ModelError, one_line
from latentood.models.heads import Prediction
from latentood.plugins import hyper, plugin
from latentood.training.measures import DetectionMeasure, Measure, PixelMeasure
from latentood.training.objectives.base import END, Batch, Given, Moment, Objective, TrainedNetwork


class DenseObjective(Objective):
    """An objective of what the classifier gives; there is no prediction (B, C) to score."""

    predicts = False

    def of(self, given: Given) -> Tensor:
        """Refuse: the loss is that of a batch.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{self.who}: has a loss of batches alone, got predictions; call "
            "network.batch_loss(Batch(inputs, targets))"
        )


@plugin
class PixelCrossEntropy(DenseObjective):
    """The mean of −log p_y over all pixels but those to ignore.

    The network gives (B, C, H, W), or a mapping with that under ``out`` and, for an auxiliary
    classifier, under ``aux``: then the loss is that of ``out`` + w·that of ``aux``, as in
    torchvision's training of segmenters, with its w. Departure: a batch of nothing but pixels to
    ignore has the loss 0, where a mean over none is not a number.

    Targets are masks, together (B, H, W) int64. The best epoch is that of the highest mean
    intersection over union, then of the highest accuracy of pixels.
    """

    name = "pixel_cross_entropy"
    paper = "textbook; auxiliary loss: arXiv:1612.01105, sec. 3.3"
    ignore_index: int = hyper(255, "label of pixels that do not count")
    aux_weight: float = hyper(0.5, "weight w of the auxiliary classifier", low=0)

    @property
    def targets(self) -> Masks:
        """Masks (H, W) with the label to ignore."""
        return Masks(self.ignore_index)

    def measure(self, classes: int) -> Measure:
        """Give the mean intersection over union and the accuracy of pixels."""
        return PixelMeasure(classes, self.ignore_index)

    def try_on(self, classifier: nn.Module, batch: Batch, classes: int) -> Tensor:
        """Run a segmenter on a few images: (M, C), the logits of all pixels.

        Raises:
            ModelError: It gives something else than (B, C, H, W), or another C.
        """
        logits = self.logits(classifier.eval()(batch.inputs), batch.targets)
        if logits.shape[1] != classes:
            raise ModelError(
                f"{self.who}: the network must give (B, {classes}, H, W), one channel for each "
                f"class, got {tuple(logits.shape)}; set training.classes, or the number of "
                "classes in model.args"
            )
        return logits.movedim(1, -1).flatten(0, -2)

    def batch_loss(
        self, network: TrainedNetwork, batch: Batch, moment: Moment = END
    ) -> tuple[Tensor, Prediction | None]:
        """Give the mean loss of the pixels of a batch, in nats.

        Raises:
            ModelError: The network gives something else than (B, C, H, W) for targets (B, H, W).
        """
        output = network(batch.inputs)
        loss = self._loss(self.logits(output, batch.targets), batch.targets)
        if isinstance(output, Mapping) and "aux" in output:
            auxiliary = self.logits(output["aux"], batch.targets)
            loss = loss + self.aux_weight * self._loss(auxiliary, batch.targets)
        return loss, None

    def logits(self, output: Any, targets: Tensor) -> Tensor:
        """Take the logits (B, C, H, W) for masks (B, H, W) out of what a segmenter gives.

        Raises:
            ModelError: It gives none.
        """
        logits = output.get("out") if isinstance(output, Mapping) else output
        size = tuple(targets.shape)
        if not isinstance(logits, Tensor) or (len(logits), *logits.shape[2:]) != size:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"{self.who}: the network must give logits (B, C, H, W), or a mapping with them "
                f"under 'out', for targets (B, H, W), got {got} for {size}; look at model.target "
                "and at the transforms of images and masks"
            )
        return logits

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction="sum")
        return total / (targets != self.ignore_index).sum().clamp(min=1)


@plugin
class OwnLoss(DenseObjective):
    """The sum of the losses that a network in training mode gives itself.

    torchvision's convention for object detectors: ``model(images, targets)`` with lists of B
    images and B mappings gives a mapping of losses in training mode, and detections in eval mode.
    So there is no loss on a val split: the best epoch is that of the highest average precision
    (AP50). All losses have weight 1, as in torchvision's training.

    Targets are mappings with ``boxes`` (n, 4), x1, y1, x2, y2, and ``labels`` (n,).
    """

    name = "own_loss"
    paper = "torchvision"
    background: bool = hyper(True, "whether label 0 stands for no object, as in torchvision")

    @property
    def targets(self) -> Boxes:
        """Boxes with labels."""
        return Boxes(self.background)

    def measure(self, classes: int) -> Measure:
        """Give the average precision at an overlap of 0.5."""
        return DetectionMeasure()

    def try_on(self, classifier: nn.Module, batch: Batch, classes: int) -> None:
        """Run a detector on a few images, in training and in eval mode.

        Raises:
            ModelError: It gives no losses or no detections, or does not take the label C − 1.
        """
        copied = copy.deepcopy(classifier).train()  # batch norms learn from whatever they see
        self._total(copied(batch.inputs, _one_object(batch.inputs, self.targets.first)), copied)
        try:
            copied(batch.inputs, _one_object(batch.inputs, classes - 1))
        except Exception as error:
            raise ModelError(
                f"{self.who}: the network must take labels up to {classes - 1}, got "
                f"{type(error).__name__}: {one_line(error)[:200]}; set training.classes, or the "
                "number of classes in model.args"
            ) from error
        given = classifier.eval()(batch.inputs)
        wanted = {"boxes", "labels", "scores"}
        if not isinstance(given, list) or not all(wanted <= set(one) for one in given):
            raise ModelError(
                f"{self.who}: the network must give boxes, labels and scores of each image in "
                f"eval mode, got {type(given).__name__}; follow torchvision's detectors"
            )

    def batch_loss(
        self, network: TrainedNetwork, batch: Batch, moment: Moment = END
    ) -> tuple[Tensor, Prediction | None]:
        """Give the sum of the network's losses for a batch.

        Raises:
            ModelError: The network gives no mapping of losses.
        """
        return self._total(network(batch.inputs, batch.targets), network.classifier), None

    def _total(self, losses: Any, classifier: nn.Module) -> Tensor:
        if not isinstance(losses, Mapping) or not losses:
            mode = "training" if classifier.training else "eval"
            raise ModelError(
                f"{self.who}: the network must give a mapping of losses for (images, targets) in "
                f"training mode, got {type(losses).__name__} in {mode} mode; call "
                "network.train(), or choose an objective with a loss of its own"
            )
        return torch.stack(list(losses.values())).sum()


def _one_object(images: Sequence[Tensor], label: int) -> list[dict[str, Tensor]]:
    """Make targets of one object in the middle of each image."""
    sizes = [torch.tensor(image.shape[-2:]).flip(0) for image in images]
    boxes = [torch.cat([size / 4, size * 3 / 4])[None] for size in sizes]
    return [{"boxes": box, "labels": torch.tensor([label])} for box in boxes]
