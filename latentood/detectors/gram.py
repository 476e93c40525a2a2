"""Gram matrices: do the channels of layers fire together as in training."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State, hyper
from latentood.detectors.statistics import Pass
from latentood.detectors.statistics_geometry import PredictedBounds
from latentood.errors import DetectorError
from latentood.latents import LOGITS, Accumulator, Latents, Statistic, features

POWERS = 5
"""Orders of the Gram matrices the extractor's reduction keeps."""

_ELEMENTS = 1 << 18  # per step: the temporaries of a step stay in the cache
_FLOOR = 1e-6  # as in the authors' code: a bound may be 0, as for a unit that never fires

log = logging.getLogger(__name__)


def deviations(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Relative distance outside the bounds, summed over columns: three (N, D) → (N,)."""
    below = (low - rows).clamp(min=0.0) / (low.abs() + _FLOOR)
    above = (rows - high).clamp(min=0.0) / (high.abs() + _FLOOR)
    return (below + above).sum(dim=1)


def deviations_by_class(rows: Tensor, predicted: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Deviations of rows (N, D) of any dtype from the bounds (C, D) of their class (N,) → (N,)."""
    step = max(1, _ELEMENTS // rows.shape[1])
    parts = zip(rows.split(step), predicted.split(step), strict=True)
    return torch.cat([deviations(part.double(), low[c], high[c]) for part, c in parts])


@dataclass(frozen=True, eq=False)
class MeanDeviation:
    """Mean deviation of one layer over rows, given its bounds by class: () float64."""

    key: str
    low: Tensor  # (C, D)
    high: Tensor  # (C, D)

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LOGITS)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a pass over ``source``."""
        total = self.low.new_zeros(())

        def take(block: Latents) -> None:
            predicted = block[LOGITS].argmax(dim=1)
            total.add_(deviations_by_class(block[self.key], predicted, self.low, self.high).sum())

        return Pass(take, lambda: total / len(source))


@dataclass(frozen=True)
class Gram(Detector):
    """How far row sums of Gram matrices leave their range over the fit rows, over layers.

    ``Σ_l δ_l / E_val δ_l`` with δ_l the sum over entries of ``(min−g)/|min|`` below the range and
    ``(g−max)/|max|`` above it; ranges by predicted class. Sastry and Oore 2020. 1e-6 is added to
    |min| and |max| (the authors' code adds it inside the bars). The layers must have been
    extracted with the reduction ``gram``: orders 1 to 5 (the paper also tries 10), the root taken
    before rows are summed, where pytorch-ood and the authors' code take it after. A class no fit
    row is predicted as gets the range of all rows, and a warning says so.
    """

    name = "gram"
    family = "gram"
    paper = "arXiv:1912.12510, sec. 3"
    works = "Far OOD with unusual textures, over several convolutional layers; no OOD to tune on."
    fails = "Near OOD, whose activations stay within the ranges, and classes with few fit rows."
    cost = "O(N·C_l) per layer to fit, O(C_l) per row and layer, for C_l channels"
    layers: tuple[str, ...] = hyper(
        ("gram",), "layers extracted with reduction gram, e.g. [layer1, layer2]; name your own"
    )

    def __post_init__(self) -> None:
        """Check the layers: at least one name."""
        super().__post_init__()
        if not self.layers or not all(isinstance(layer, str) for layer in self.layers):
            raise DetectorError(
                f"{self.name}: layers must be names of layers, got {self.layers!r}; list those "
                "extracted with reduction gram"
            )

    @property
    def arrays(self) -> tuple[str, ...]:
        """Name the arrays of row sums."""
        return tuple(features(layer) for layer in self.layers)

    def needs(self) -> Needs:
        """Declare row sums and logits, of fit rows, of ID val rows and to score."""
        every = (*self.arrays, LOGITS)
        return Needs(score=every, fit=every, val=every)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the ranges."""
        return tuple(PredictedBounds(key) for key in self.arrays)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep for every layer the ranges (C, 5·C_l), low and high, and the expected deviation."""
        for key in self.arrays:
            self._check_width(train, key)
        train.gather(self.statistics())
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
        """Tell the expected deviation of each layer, and classes without a predicted fit row."""
        expected = dict(zip(self.layers, state["expected"].tolist(), strict=True))
        return {"expected_deviation": expected, "classes_never_predicted": state["unseen"].tolist()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Sum the deviations of all layers: (N,) ≥ 0."""
        predicted = rows[LOGITS].argmax(dim=1)
        total = torch.zeros(len(rows), dtype=torch.float64, device=predicted.device)
        for place, key in enumerate(self.arrays):
            low, high = state[f"low{place}"], state[f"high{place}"]
            found = deviations_by_class(rows[key], predicted, low, high)
            total += found / state["expected"][place]
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
                f"{self.name}: {key} must hold {POWERS} row sums per channel, got {width} values; "
                "re-run extract with the reduction gram for this layer"
            )
