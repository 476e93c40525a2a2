"""Steps of activation shaping: each learns what it needs and reshapes features or the head.

A detector is a chain of steps; no step depends on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from latentood.detectors.base import State
from latentood.detectors.statistics.moments import Mean
from latentood.detectors.statistics.percentiles import Percentiles
from latentood.detectors.statistics.radial import RadialPower
from latentood.errors import DetectorError
from latentood.latents import LABELS, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.stats.activations import clip, even_out, prune, rectify, sharpen, sparsify
from latentood.stats.linalg import radially_scaled


@dataclass(frozen=True)
class Step:
    """One way to reshape activations or the head that reads them."""

    reads_val: ClassVar[bool] = False
    """Whether it learns from ID val rows."""
    fit_reads: ClassVar[tuple[str, ...]] = ()
    """What it learns from beside features and the head of the fit rows."""
    needs_positive: ClassVar[bool] = False
    """Whether sums of activations must not cancel."""

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Declare what it asks of the fit split."""
        return ()

    def learn(self, who: str, weight: Tensor, rows: Latents) -> State:
        """Learn from the fit rows, or from ID val rows if it reads those; ``who`` begins messages.

        The result is kept in the state; a ``weight`` (C, D) in it replaces that of the head.
        """
        return {}

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Reshape activations (N, D) → (N, D)."""
        return activations


@dataclass(frozen=True)
class Sparsify(Step):
    """Keep the weights of the head that contribute most on average over the fit rows."""

    percent: float

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the mean features."""
        return (Mean(PENULTIMATE_FEATURES),)

    def learn(self, who: str, weight: Tensor, rows: Latents) -> State:
        """Give the sparse weight (C, D)."""
        mean = rows.compute(Mean(PENULTIMATE_FEATURES))
        sparse = sparsify(weight, mean, self.percent)
        if not bool((sparse != 0).any()):
            raise DetectorError(
                f"{who}: some contributions of weights must be above their percentile "
                f'{self.percent}, got none over {len(rows)} rows of "{rows.name}"; lower it'
            )
        return {"weight": sparse}


@dataclass(frozen=True)
class Clip(Step):
    """Clip activations at a percentile of those of ID val rows, all units together."""

    reads_val = True
    percent: float

    def learn(self, who: str, weight: Tensor, rows: Latents) -> State:
        """Give the threshold (1,)."""
        lowest, top = rows.compute(Percentiles(PENULTIMATE_FEATURES, (0.0, self.percent)))
        if bool(top <= lowest):
            raise _no_spread(who, f"percentile {self.percent}", "the smallest", lowest, rows)
        return {"clip": top}

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Clip (N, D)."""
        return clip(activations, state["clip"])


@dataclass(frozen=True)
class Rectify(Step):
    """Silence activations below a percentile of those of ID val rows, clip above another."""

    reads_val = True
    low: float
    high: float
    per_unit: bool

    def learn(self, who: str, weight: Tensor, rows: Latents) -> State:
        """Give both thresholds, (D,) each or (1,)."""
        wanted = Percentiles(PENULTIMATE_FEATURES, (self.low, self.high), self.per_unit)
        low, high = rows.compute(wanted)
        if not bool((low < high).any()):
            raise _no_spread(who, f"percentile {self.high}", f"percentile {self.low}", low[0], rows)
        return {"low": low, "high": high}

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Silence and clip (N, D)."""
        return rectify(activations, state["low"], state["high"])


@dataclass(frozen=True)
class Radial(Step):
    """Divide every row by a power of its length that is chosen on the fit rows."""

    fit_reads = (LABELS,)
    power: RadialPower

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the power, and the sample that it is chosen on."""
        return (self.power.sample, self.power)

    def learn(self, who: str, weight: Tensor, rows: Latents) -> State:
        """Give the power ()."""
        return {"beta": rows.compute(self.power)}

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Scale (N, D)."""
        return radially_scaled(activations, float(state["beta"]))


@dataclass(frozen=True)
class Prune(Step):
    """Silence the least active units of every row."""

    percent: float

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Prune (N, D)."""
        return prune(activations, self.percent)


@dataclass(frozen=True)
class EvenOut(Step):
    """Silence the least active units of every row and spread its sum over the others."""

    needs_positive = True
    percent: float

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Even out (N, D)."""
        return even_out(activations, self.percent)


@dataclass(frozen=True)
class Sharpen(Step):
    """Scale every row by the exponential of how far its activation is spread."""

    needs_positive = True
    percent: float

    def apply(self, state: State, activations: Tensor) -> Tensor:
        """Scale (N, D)."""
        return sharpen(activations, self.percent)


def _no_spread(who: str, upper: str, lower: str, value: Tensor, val: Latents) -> DetectorError:
    return DetectorError(
        f"{who}: {upper} of {PENULTIMATE_FEATURES} must be above {lower}, got {float(value):g} for "
        f'both over {len(val)} ID val rows of "{val.name}"; raise the upper percentile, or use '
        "energy"
    )
