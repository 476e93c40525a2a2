"""A classifier together with the head and the loss of an objective."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.models.heads import Prediction
from latentood.training.objectives.base import END, Batch, Moment, Objective, check_output


class Network(nn.Module):
    """A classifier with the head of an objective: its output becomes a prediction.

    Args:
        classifier: Gives (B, H): logits, H = C, unless the objective says otherwise.
        objective: What it is trained for.
        classes: C.
        width: H; default: C.
        counts: (C,) training rows of each class, for objectives that read them.
    """

    def __init__(
        self,
        classifier: nn.Module,
        objective: Objective,
        *,
        classes: int,
        width: int | None = None,
        counts: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.objective = objective
        self.head = objective.head(width or classes, classes, counts)
        self._last: str | None = None  # name of the last linear layer, once it is known

    def forward(self, inputs: Any, *targets: Any) -> Any:
        """Predict B inputs (B, …), with features (B, D) where the objective reads them.

        A network whose objective makes no predictions gives what its classifier gives for inputs
        and targets.

        Raises:
            ModelError: The classifier does not give (B, H), or features are read and no linear
                layer gives its output.
        """
        if not self.objective.predicts:
            return self.classifier(inputs, *targets)
        if not self.objective.reads_features:
            return self._read(self.classifier(inputs))
        layers = {
            name: module
            for name, module in self.classifier.named_modules()
            if isinstance(module, nn.Linear) and self._last in (None, name)
        }
        with _watched(layers) as runs:
            output = self.classifier(inputs)
        prediction = self._read(output)
        last = self._last = _maker_of(output, runs, self.objective.who)
        layer = layers[last]

        def classify(features: Tensor) -> Tensor:
            return F.linear(features.to(layer.weight.dtype), layer.weight, layer.bias)

        return prediction._replace(features=runs[last][0], classify=classify)

    def _read(self, output: Any) -> Prediction:
        prediction: Prediction = self.head(
            check_output(output, self.objective.name, self.head.width)
        )
        return prediction

    def loss(
        self,
        prediction: Prediction,
        labels: Tensor,
        moment: Moment = END,
        *,
        outliers: Prediction | None = None,
    ) -> Tensor:
        """Give the mean loss of a batch; without a moment its terms have their final weights."""
        return self.objective.loss(prediction, labels, moment, head=self.head, outliers=outliers)

    def batch_loss(self, batch: Batch, moment: Moment = END) -> tuple[Tensor, Prediction | None]:
        """Run a batch: its mean loss, and the ID predictions where the objective makes any."""
        return self.objective.batch_loss(self, batch, moment)

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Give probabilities (B, C) and the network's own uncertainty (B,), in eval mode."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                prediction = self(inputs)
                return prediction.probability, self.head.uncertainty(prediction)
        finally:
            self.train(training)


@contextmanager
def _watched(layers: dict[str, nn.Linear]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Collect input and output of layers while they run; the last call of each counts."""
    runs: dict[str, tuple[Tensor, Tensor]] = {}
    with ExitStack() as hooks:
        for name, layer in layers.items():

            def take(module: nn.Module, args: Any, out: Tensor, name: str = name) -> None:
                runs[name] = args[0], out

            hooks.callback(layer.register_forward_hook(take).remove)
        yield runs


def _maker_of(output: Tensor, runs: dict[str, tuple[Tensor, Tensor]], who: str) -> str:
    """Find the layer whose output is that of the network."""
    for name, (_, out) in reversed(runs.items()):
        if out is output or (out.shape == output.shape and out.equal(output)):
            return name
    raise ModelError(
        f"{who}: needs the input of the last linear layer, but no linear layer gives the network's "
        "output; end the network in nn.Linear, or train with another objective"
    )
