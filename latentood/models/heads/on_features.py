"""A head on the features of a network that is already there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentood.models.heads.attached import PREFIX, build_head, describe, tensors_of
from latentood.models.heads.base import KINDS, Prediction, UncertaintyHead


class FeatureClassifier(nn.Module):
    """Gives (B, C) of the features (B, D) of a layer, as the last layers of a classifier do.

    Features are standardised by the mean and the scale of the rows it is trained on, and then go
    through linear layers with ReLU between them; without hidden ones that is a linear classifier.

    Args:
        layer: Name of the layer whose features it reads.
        width: D.
        classes: C.
        hidden: Widths of hidden layers.
    """

    mean: Tensor  # (D,)
    scale: Tensor  # (D,), above 0

    def __init__(self, layer: str, width: int, classes: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.layer = layer
        self.hidden = list(hidden)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        widths = [width, *hidden, classes]
        layers: list[nn.Module] = []
        for inside, outside in itertools.pairwise(widths):
            layers += [nn.Linear(inside, outside), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """Classify features: (B, D) → (B, C)."""
        output: Tensor = self.layers((features - self.mean) / self.scale)
        return output

    def describe(self) -> dict[str, Any]:
        """Give all but the tensors and C, as JSON values."""
        return {"layer": self.layer, "width": len(self.mean), "hidden": self.hidden}


class FeatureHead(nn.Module):
    """A classifier of features and its head: what ``latentood train --from`` fits.

    Args:
        classifier: Reads the features.
        head: Reads what the classifier gives.
    """

    def __init__(self, classifier: FeatureClassifier, head: UncertaintyHead) -> None:
        super().__init__()
        self.classifier = classifier
        self.head = head

    def forward(self, features: Tensor) -> Prediction:
        """Predict from features (B, D)."""
        prediction: Prediction = self.head(self.classifier(features))
        return prediction

    @property
    def layer(self) -> str:
        """Name of the layer whose features it reads."""
        return self.classifier.layer

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name the kinds of arrays that it gives to a cache."""
        return tuple(KINDS[field] for field in self.head.gives)

    @torch.no_grad()
    def arrays(self, features: Tensor) -> dict[str, Tensor]:
        """Give what a cache keeps for features (B, D): kind → (B, C) float32."""
        prediction = self(features.to(self.classifier.mean.dtype))
        return {KINDS[field]: getattr(prediction, field).float() for field in self.head.gives}

    def describe(self) -> dict[str, Any]:
        """Give all but the tensors, as JSON values."""
        return {"features": self.classifier.describe(), "head": describe(self.head)}

    def tensors(self) -> dict[str, Tensor]:
        """Give what predictions need, by the names that files have it under."""
        return tensors_of(self.classifier, self.head)


def build_feature_head(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    known: Mapping[str, type[UncertaintyHead]],
) -> FeatureHead:
    """Build the head that :meth:`FeatureHead.describe` described, in eval mode.

    Raises:
        ModelError: There is no such head, or its settings do not fit.
        KeyError, TypeError, ValueError, RuntimeError: The record or the tensors are of another
            kind.
    """
    head = build_head(record["head"], known)
    about = record["features"]
    classifier = FeatureClassifier(
        str(about["layer"]), int(about["width"]), head.width, about["hidden"]
    )
    built = FeatureHead(classifier, head)
    own = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
    classifier.load_state_dict(own)
    of_head = {name.removeprefix(PREFIX): v for name, v in tensors.items() if name not in own}
    missing, extra = head.load_state_dict(of_head, strict=False)
    if extra or set(missing) - head.only_for_training:
        raise ValueError(f"tensors {', '.join([*missing, *extra])}")
    return built.eval().requires_grad_(False)
