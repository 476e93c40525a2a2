"""What turns the output of a network into a prediction with its own uncertainty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """What a network predicts for B inputs: logits, and what else its head gives."""

    logits: Tensor  # (B, C)
    log_alpha: Tensor | None = None  # (B, C), log concentrations of a Dirichlet distribution
    log_density: Tensor | None = None  # (B, C), log density of the latent vectors for each class
    distance: Tensor | None = None  # (B, C), squared distance to the nearest prototype of a class
    weighted_logits: Tensor | None = None  # (B, C), logits plus log weights of the classes
    features: Tensor | None = None  # (B, D), what an objective reads beside the predictions
    classify: Callable[[Tensor], Tensor] | None = None  # features (M, D) → logits, beside features

    def split(self, first: int) -> tuple[Prediction, Prediction]:
        """Cut the rows in two: the first ones, and all others."""

        def take(rows: slice) -> Prediction:
            tensors = {n: v for n, v in self._asdict().items() if isinstance(v, Tensor)}
            cut: dict[str, Any] = {name: value[rows] for name, value in tensors.items()}
            return self._replace(**cut)

        return take(slice(first)), take(slice(first, None))

    @property
    def probability(self) -> Tensor:
        """Class probabilities (B, C): the mean of the Dirichlet, or else the softmax."""
        return torch.softmax(self.logits if self.log_alpha is None else self.log_alpha, dim=1)


KINDS = {
    "log_alpha": "dirichlet",
    "log_density": "density",
    "distance": "distance",
    "weighted_logits": "weighted_logits",
}
"""Field of a prediction → kind of the array of a cache that holds it."""


class UncertaintyHead(nn.Module, ABC):
    """Turns the output (B, H) of a network into a :class:`Prediction`.

    It has whatever was learnt beside the network (prototypes, flows), and is saved with the
    network's weights. Its settings are JSON values, so that it can be built again from a file.

    Args:
        width: H, the width of the network's output.
        classes: C.
        settings: Keyword arguments of the class beside these two.
    """

    name: ClassVar[str]
    """What it is called in a file of weights."""
    gives: ClassVar[tuple[str, ...]] = ()
    """The fields of its predictions that go into a cache, beside the logits."""
    only_for_training: ClassVar[frozenset[str]] = frozenset()
    """Names in its state dict that predictions do not need, and a file of weights may lack."""

    def __init__(self, width: int, classes: int, **settings: Any) -> None:
        super().__init__()
        self.width = width
        self.classes = classes
        self.settings = settings

    @abstractmethod
    def forward(self, output: Tensor) -> Prediction:
        """Read the output of a network: (B, H) → a prediction for B inputs."""

    @abstractmethod
    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give the network's own uncertainty of each input: (B,), higher = less certain."""


class SoftmaxHead(UncertaintyHead):
    """The output are the logits, and the uncertainty is one minus the largest probability."""

    name = "softmax"

    def forward(self, output: Tensor) -> Prediction:
        """Take the output as it is."""
        return Prediction(output)

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give 1 − max p: (B,) in [0, 1 − 1/C]."""
        return 1 - prediction.probability.amax(dim=1)
