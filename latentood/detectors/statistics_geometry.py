"""Statistics for detectors of head geometry, prototypes and neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.neighbours import unit_rows
from latentood.detectors.statistics import Bank, BankRows, Pass
from latentood.latents import LABELS, LOGITS, PENULTIMATE, Accumulator, Latents, features
from latentood.stats.linalg import EPSILON, Covariance, column_sums
from latentood.stats.products import SelfProduct

PENULTIMATE_FEATURES = features(PENULTIMATE)


class RunningSum:
    """A sum over blocks, as wide and where the first block is."""

    total: Tensor

    def add(self, part: Tensor) -> None:
        """Add the part of a block."""
        self.total = self.total + part if hasattr(self, "total") else part


@dataclass(frozen=True)
class Mean:
    """Mean of the rows alone, (D,) float64, without the scatter that ``Moments`` needs."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a pass over ``source``."""
        rows = RunningSum()
        return Pass(
            lambda block: rows.add(column_sums(block[self.key])),
            lambda: rows.total / len(source),
        )


@dataclass(frozen=True)
class UnitScatter:
    """``Σ ĥ·ĥᵀ`` about 0 of the rows scaled to length 1, not divided by their number."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[Covariance]:
        """Begin a pass over ``source``."""
        first = source.read(self.key, 0, 1)
        product = SelfProduct(first.shape[1], first.device)

        def finish() -> Covariance:
            scatter = product.total()
            size = float(torch.linalg.matrix_norm(scatter))
            return Covariance(scatter, EPSILON * len(scatter) * size)

        return Pass(lambda block: product.add(unit_rows(block[self.key])), finish)


@dataclass(frozen=True)
class ClassBank(Bank):
    """A share of the rows of every class, at least one of each, drawn without replacement.

    Equal shares and seeds keep the same rows, whatever the key.
    """

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)

    def chosen(self, source: Latents) -> Tensor:
        """Give every row a random place in its class and keep the first ones."""
        labels = source[LABELS].long().cpu()
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        order = shuffled[labels[shuffled].argsort(stable=True)]  # by class, at random within
        counts = torch.bincount(labels)
        first = counts.cumsum(0) - counts
        place = torch.arange(len(labels)) - first[labels[order]]
        kept = (self.share * counts).round().clamp(min=1)
        return order[place < kept[labels[order]]].sort().values


@dataclass(frozen=True)
class Sample:
    """A number of rows, or all if there are no more, drawn without replacement."""

    key: str
    rows: int
    seed: int

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[BankRows]:
        """Begin a pass over ``source``."""
        return Bank(self.key, min(1.0, self.rows / len(source)), self.seed).start(source)


@dataclass(frozen=True, eq=False)
class ClassBounds:
    """Smallest and largest values of every column over the rows predicted as each class.

    Attributes:
        low: (C, D) float64.
        high: (C, D) float64.
        unseen: Classes no fit row is predicted as; their bounds are those of all rows.
    """

    low: Tensor  # (C, D)
    high: Tensor  # (C, D)
    unseen: tuple[int, ...]


@dataclass(frozen=True)
class PredictedBounds:
    """The range of every column by predicted class."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LOGITS)

    def start(self, source: Latents) -> Accumulator[ClassBounds]:
        """Begin a pass over ``source``."""
        shape = (source.shape(LOGITS)[1], source.shape(self.key)[1])
        device = source.read(LOGITS, 0, 1).device
        low = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
        high = -low

        def take(block: Latents) -> None:
            rows = block.double(self.key)
            predicted = block[LOGITS].argmax(dim=1).unsqueeze(1).expand_as(rows)
            low.scatter_reduce_(0, predicted, rows, "amin")
            high.scatter_reduce_(0, predicted, rows, "amax")

        def finish() -> ClassBounds:
            unseen = low[:, 0] > high[:, 0]
            low[unseen], high[unseen] = low.amin(dim=0), high.amax(dim=0)
            return ClassBounds(low, high, tuple(unseen.nonzero().flatten().tolist()))

        return Pass(take, finish)


@dataclass(frozen=True)
class StateCounts:
    """How often each unit was in each bin of its activation state: (D, bins) float64.

    Attributes:
        steepness: α of the sigmoid.
        bins: Bins of equal width over the states, [0, 1].
    """

    steepness: float
    bins: int

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads, beside the head."""
        return (PENULTIMATE_FEATURES, LOGITS)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a pass over ``source``."""
        weight = source.head[0]
        counts = weight.new_zeros(weight.shape[1] * self.bins)

        def take(block: Latents) -> None:
            states = activation_states(
                block.double(PENULTIMATE_FEATURES), block.double(LOGITS), weight, self.steepness
            )
            cells = state_cells(states, self.bins)
            counts.add_(torch.bincount(cells.flatten(), minlength=len(counts)))

        return Pass(take, lambda: counts.reshape(-1, self.bins))


def activation_states(h: Tensor, logits: Tensor, weight: Tensor, steepness: float) -> Tensor:
    """Sigmoid of each unit's activation times the slope of KL(u‖p) along it.

    Behind h there is only the head, so that slope is ``Wᵀ(p−u)``: no backward pass is needed.

    Args:
        h: (N, D) float64, input of the head.
        logits: (N, C) float64.
        weight: (C, D) of the head.
        steepness: α of the sigmoid.

    Returns:
        (N, D) in [0, 1].
    """
    slope = (logits.softmax(dim=1) - 1 / logits.shape[1]) @ weight
    return torch.sigmoid(steepness * h * slope)


def state_cells(states: Tensor, bins: int) -> Tensor:
    """Number the bin of every state, units one after the other: (N, D) → (N, D) int64.

    Where a unit has no say the state is ½, up to rounding, and for an even number of bins that
    is an edge: a state within 1e-9 of a bin below an edge counts above it.
    """
    column = torch.arange(states.shape[1], device=states.device)
    return (states * bins + 1e-9).long().clamp_(max=bins - 1) + column * bins
