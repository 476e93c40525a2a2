"""What a network is trained for: a head, and a loss of its predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from latentood.data.targets import CLASS_NUMBERS, TargetKind
from latentood.errors import ModelError
from latentood.models.heads import Prediction, SoftmaxHead, UncertaintyHead
from latentood.plugins import Plugin
from latentood.training.measures import ClassMeasure, Measure


@dataclass(frozen=True)
class Moment:
    """How far a training is: what annealed terms of a loss depend on."""

    epoch: float  # epochs done, a fraction within one
    share: float  # of all steps that are done, in [0, 1]


END = Moment(float("inf"), 1.0)
"""The moment at which every term has its final weight."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one step."""

    inputs: Any  # (B, …), or a list of B inputs where these differ in size
    targets: Any  # (B,) int64 classes, or what else the objective says
    outliers: Tensor | None = None  # (B', …) OOD inputs, for objectives that read them


@dataclass(frozen=True, eq=False)
class Given:
    """The arguments of :meth:`Objective.loss`."""

    prediction: Prediction
    labels: Tensor  # (B,)
    moment: Moment
    head: UncertaintyHead
    outliers: Prediction | None


class TrainedNetwork(Protocol):
    """What an objective needs of a network."""

    classifier: nn.Module
    head: UncertaintyHead

    def __call__(self, inputs: Any, /, *targets: Any) -> Any:
        """Predict B inputs; without predictions, give what the classifier gives."""


class Objective(Plugin, ABC):
    """A loss with its hyperparameters; the head holds what is learnt beside the network."""

    kind = "objective"
    remedy = "look at objective: in training:"
    paper: ClassVar[str]
    """Where it is from."""
    reads_outliers: ClassVar[bool] = False
    """Whether the loss needs predictions for OOD inputs."""
    reads_features: ClassVar[bool] = False
    """Whether predictions must come with the features of the penultimate layer."""
    predicts: ClassVar[bool] = True
    """Whether the network gives (B, H), from which the head makes predictions."""

    @property
    def targets(self) -> TargetKind:
        """What the target of an input is."""
        return CLASS_NUMBERS

    def measure(self, classes: int) -> Measure:
        """Give what is measured on the val split, for C classes, before any batch."""
        return ClassMeasure()

    def try_on(self, classifier: nn.Module, batch: Batch, classes: int) -> Tensor | None:
        """Run a classifier on a few rows before any training.

        Returns:
            (M, H), what it gives in eval mode for each prediction, where that can be looked at.

        Raises:
            ModelError: It is no network for this objective, or not one for C classes.
        """
        return check_output(classifier.eval()(batch.inputs), self.name)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> UncertaintyHead:
        """Make the head of a network, before any training.

        Args:
            width: H, the width of the network's output.
            classes: C.
            counts: (C,) training rows of each class, where they are known.

        Raises:
            ConfigError: The network's output has another width than the objective allows.
        """
        return SoftmaxHead(width, classes)

    @abstractmethod
    def of(self, given: Given) -> Tensor:
        """Give the mean loss of what a batch gave: a scalar with gradients."""

    def loss(
        self,
        prediction: Prediction,
        labels: Tensor,
        moment: Moment = END,
        *,
        head: UncertaintyHead,
        outliers: Prediction | None = None,
    ) -> Tensor:
        """Give the mean loss of a batch: a scalar with gradients.

        Args:
            prediction: For B ID inputs.
            labels: (B,) int64, their classes.
            moment: How far the training is.
            head: What :meth:`head` made.
            outliers: For OOD inputs, where the objective reads them.
        """
        return self.of(Given(prediction, labels, moment, head, outliers))

    def batch_loss(
        self, network: TrainedNetwork, batch: Batch, moment: Moment = END
    ) -> tuple[Tensor, Prediction | None]:
        """Run a network on a batch: the loss, and the ID predictions where there are any.

        ID and OOD inputs go through the network together: batch norms that saw the OOD inputs
        alone would remove the difference that is to be learnt.
        """
        outliers = None
        if batch.outliers is None:
            prediction = network(batch.inputs)
        else:
            together = network(torch.cat([batch.inputs, batch.outliers]))
            prediction, outliers = together.split(len(batch.inputs))
        loss = self.loss(prediction, batch.targets, moment, head=network.head, outliers=outliers)
        return loss, prediction

    def coefficients(self, moment: Moment) -> dict[str, float]:
        """Give the annealed weights of the loss at a moment, by name, for the record."""
        return {}


def check_output(output: Any, who: str, width: int | str = "H") -> Tensor:
    """Give the output of a network if it is (B, H); the message names the width it should have.

    Raises:
        ModelError: It is not.
    """
    if isinstance(output, Tensor) and output.dim() == 2:
        return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ModelError(f"{who}: the network must give (B, {width}), got {shape}")
