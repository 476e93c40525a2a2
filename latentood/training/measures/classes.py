"""How well a classifier predicts, and how sure it is when it is right and when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentood.training.measures.base import Measure

_LEAST = 1e-30  # a probability that rounds to 0 still gives a likelihood
_BINS = 50


class ClassMeasure(Measure):
    """Accuracy, mean negative log likelihood, and the means of what is known of each prediction.

    ``uncertainty`` is that of the network's head, and ``probability`` that of the predicted class,
    both for rows that are predicted rightly and for those that are not. Values that are not finite
    have no part in a histogram.
    """

    ranking: ClassVar[Mapping[str, int]] = {"accuracy": 1, "nll": -1}

    def __init__(self) -> None:
        self.nll = 0.0
        self.parts: list[Tensor] = []  # (3, B) each: right, uncertainty, probability

    def add(self, network: Any, inputs: Any, targets: Any) -> None:
        """Add inputs (B, …) of the classes (B,)."""
        prediction = network(inputs)
        probability = prediction.probability
        likelihood = probability.gather(1, targets.unsqueeze(1)).double()
        self.nll -= float(likelihood.clamp(min=_LEAST).log().sum())
        right = probability.argmax(dim=1) == targets
        columns = right, network.head.uncertainty(prediction), probability.amax(dim=1)
        self.parts.append(torch.stack([column.double() for column in columns]).cpu())

    def values(self) -> dict[str, float]:
        """Give ``nll`` in nats, ``accuracy``, and the means of rows predicted rightly or not."""
        rows = self._rows()
        means = {
            f"{name}_{group}": float(chosen.mean())
            for name in ("uncertainty", "probability")
            for group, chosen in _groups(rows, name).items()
            if chosen.size
        }
        right = rows["right"]
        return {"nll": self.nll / right.size, "accuracy": int(right.sum()) / right.size, **means}

    def statistics(self) -> dict[str, Any]:
        """Give the rows of both groups, and edges and counts of four histograms."""
        rows = self._rows()
        sizes = {group: int(one.size) for group, one in _groups(rows, "probability").items()}
        uncertainty = rows["uncertainty"][np.isfinite(rows["uncertainty"])]
        edges = {
            "uncertainty": np.histogram_bin_edges(uncertainty, _BINS),
            "probability": np.linspace(0, 1, _BINS + 1),
        }
        return {"rows": sizes} | {
            name: {"edges": bins.tolist()}
            | {
                group: np.histogram(one, bins)[0].tolist()
                for group, one in _groups(rows, name).items()
            }
            for name, bins in edges.items()
        }

    def _rows(self) -> dict[str, NDArray[Any]]:
        right, uncertainty, probability = torch.cat(self.parts, dim=1).numpy()
        return {"right": right > 0, "uncertainty": uncertainty, "probability": probability}


def _groups(rows: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    return {"right": rows[name][rows["right"]], "wrong": rows[name][~rows["right"]]}
