"""Gram matrices: do the channels of layers fire together as in training."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.detectors.statistics.bounds import (
    MeanDeviation,
    PredictedBounds,
    deviations_by_class,
)
from latentood.errors import DetectorError
from latentood.latents import LOGITS, Key, Latents, Statistic
from latentood.plugins import hyper, plugin

POWERS = 5
"""Orders of the Gram matrices that the reduction gram keeps; gram10 keeps twice as many."""

log = logging.getLogger(__name__)


@plugin
class Gram(Detector):
    """How far row sums of Gram matrices leave their range over the fit rows, over layers.

    ``Σ_l δ_l / E_val δ_l`` with δ_l the sum over entries of ``(min−g)/|min|`` below the range and
    ``(g−max)/|max|`` above it; ranges by predicted class. Sastry and Oore 2020. 1e-6 is added to
    |min| and |max| (the authors' code adds it inside the bars). How the layers were extracted
    sets the orders: 1 to 5 by the reduction ``gram`` (as in OpenOOD), 1 to 10 by ``gram10`` (as
    in the authors' code). The root is taken before rows are summed, where pytorch-ood and the
    authors' code take it after. A class no fit row is predicted as gets the range of all rows,
    and a warning says so.
    """

    name = "gram"
    family = "gram"
    paper = "arXiv:1912.12510, sec. 3"
    works = "Far OOD with unusual textures, over several convolutional layers; no OOD to tune on."
    fails = "Near OOD, whose activations stay within the ranges, and classes with few fit rows."
    cost = "O(N·C_l) per layer to fit, O(C_l) per row and layer, for C_l channels"
    layers: tuple[str, ...] = hyper(
        ("gram",), "layers extracted with reduction gram or gram10, e.g. [layer1, layer2]"
    )

    def __post_init__(self) -> None:
        """Check the layers: at least one name."""
        if not self.layers:
            raise DetectorError(
                f"{self.name}: layers must be names of layers, got {self.layers!r}; list those "
                "extracted with reduction gram"
            )

    @property
    def arrays(self) -> tuple[str, ...]:
        """Name the arrays of row sums."""
        return tuple(Key("features", layer) for layer in self.layers)

    def needs(self) -> Needs:
        """Declare row sums and logits, of fit rows, of ID val rows and to score."""
        every = (*self.arrays, LOGITS)
        return Needs(score=every, fit=every, val=every)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the ranges."""
        return tuple(PredictedBounds(key) for key in self.arrays)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep for every layer the ranges (C, 5·C_l or 10·C_l) and the expected deviation."""
        for key in self.arrays:
            self._check_width(train, key)
        bounds = [train.compute(PredictedBounds(key)) for key in self.arrays]
        unseen = bounds[0].unseen
        if unseen:
            log.warning(
                "%s: no fit row is predicted as class %s: its range is that of all rows",
                self.name, ", ".join(map(str, unseen)),
            )  # fmt: skip
        pairs = zip(self.arrays, bounds, strict=True)
        means = [MeanDeviation(key, range_.low, range_.high) for key, range_ in pairs]
        expected = self._expected(means, train if val is None else val)
        state = {"expected": expected, "unseen": torch.tensor(unseen, dtype=torch.int64)}
        for place, range_ in enumerate(bounds):
            state |= {f"low{place}": range_.low, f"high{place}": range_.high}
        return state

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the expected deviation of each layer, and classes without a predicted fit row."""
        expected = dict(zip(self.layers, state["expected"].tolist(), strict=True))
        return {"expected_deviation": expected, "classes_never_predicted": state["unseen"].tolist()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Sum the deviations of all layers: (N,) ≥ 0."""
        predicted = rows[LOGITS].argmax(dim=1)
        total = torch.zeros(len(rows), dtype=torch.float64, device=predicted.device)
        for place, key in enumerate(self.arrays):
            low, high = state[f"low{place}"], state[f"high{place}"]
            outside = deviations_by_class(rows[key], predicted, low, high)
            total += outside / state["expected"][place]
        return total

    def _expected(self, means: list[MeanDeviation], val: Latents) -> Tensor:
        """Mean deviation of every layer over ID val rows: (L,) > 0."""
        val.gather(means)
        expected = torch.stack([val.compute(mean) for mean in means])
        if bool((expected == 0).any()):
            key = self.arrays[int((expected == 0).nonzero()[0])]
            raise DetectorError(
                f"{self.name}: {key} must leave its range over the fit rows in some rows of ID "
                f'val, got none among {len(val)} of "{val.name}"; give more val rows, and none '
                "that were fitted on"
            )
        return expected

    def _check_width(self, train: Latents, key: str) -> None:
        width = train.shape(key)[1]
        if width % POWERS:
            raise DetectorError(
                f"{self.name}: {key} must hold {POWERS} row sums per channel, or twice as many, "
                f"got {width} values; re-run extract with the reduction gram or gram10 for it"
            )


DETECTORS = (Gram,)
