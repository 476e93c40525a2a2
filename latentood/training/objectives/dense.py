"""Objectives of networks with more than one prediction per image: segmenters and detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentood.errors import ConfigError, ModelError
from latentood.models.heads import Prediction
from latentood.plugins import hyper, plugin
from latentood.training.objectives.base import END, Batch, Given, Moment, Objective, TrainedNetwork


class DenseObjective(Objective):
    """An objective that runs the classifier itself; there is no prediction (B, C) to score."""

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

    Targets are (B, H, W) int64.
    """

    name = "pixel_cross_entropy"
    paper = "textbook; auxiliary loss: arXiv:1612.01105, sec. 3.3"
    ignore_index: int = hyper(255, "label of pixels that do not count")
    aux_weight: float = hyper(0.5, "weight w of the auxiliary classifier", low=0)

    def batch_loss(
        self, network: TrainedNetwork, batch: Batch, moment: Moment = END
    ) -> tuple[Tensor, Prediction | None]:
        """Give the mean loss of the pixels of a batch, in nats.

        Raises:
            ModelError: The network gives something else than (B, C, H, W) for targets (B, H, W).
        """
        output = network.classifier(batch.inputs)
        outputs = output if isinstance(output, Mapping) else {"out": output}
        loss = self._loss(outputs.get("out"), batch.targets)
        if "aux" in outputs:
            loss = loss + self.aux_weight * self._loss(outputs["aux"], batch.targets)
        return loss, None

    def _loss(self, logits: Any, targets: Tensor) -> Tensor:
        size = tuple(targets.shape)
        if not isinstance(logits, Tensor) or (len(logits), *logits.shape[2:]) != size:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"{self.who}: the network must give logits (B, C, H, W), or a mapping with them "
                f"under 'out', for targets (B, H, W), got {got} for {size}; look at model.target "
                "and at the transforms of images and masks"
            )
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction="sum")
        return total / (targets != self.ignore_index).sum().clamp(min=1)


@plugin
class OwnLoss(DenseObjective):
    """The sum of the losses that a network in training mode gives itself.

    torchvision's convention for object detectors: ``model(images, targets)`` with lists of B
    images and B mappings gives a mapping of losses in training mode, and detections in eval mode.
    So there is no loss on a val split. All losses have weight 1, as in torchvision's training.
    """

    name = "own_loss"
    paper = "torchvision"
    reads_lists = True

    def batch_loss(
        self, network: TrainedNetwork, batch: Batch, moment: Moment = END
    ) -> tuple[Tensor, Prediction | None]:
        """Give the sum of the network's losses for a batch.

        Raises:
            ModelError: The network gives no mapping of losses.
        """
        losses = network.classifier(batch.inputs, batch.targets)
        if not isinstance(losses, Mapping) or not losses:
            mode = "training" if network.classifier.training else "eval"
            raise ModelError(
                f"{self.who}: the network must give a mapping of losses for (images, targets) in "
                f"training mode, got {type(losses).__name__} in {mode} mode; call "
                "network.train(), or choose an objective with a loss of its own"
            )
        return torch.stack(list(losses.values())).sum(), None
