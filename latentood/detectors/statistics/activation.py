"""How often each unit was in each state of activation, for neuron activation coverage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.base import FLOAT64, width_of
from latentood.latents import LOGITS, PENULTIMATE_FEATURES, Accumulator, Latents, Reading


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

    def nbytes(self, source: Latents) -> int:
        """Estimate the counts, held twice while they are added up."""
        return 2 * FLOAT64 * self.bins * width_of(source, PENULTIMATE_FEATURES)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Begin a read of ``source``."""
        weight, _ = checked_head("nac", source)
        counts = weight.new_zeros(weight.shape[1] * self.bins)

        def take(chunk: Latents) -> None:
            states = activation_states(
                chunk.double(PENULTIMATE_FEATURES), chunk.double(LOGITS), weight, self.steepness
            )
            cells = state_cells(states, self.bins)
            counts.add_(torch.bincount(cells.flatten(), minlength=len(counts)))

        return Reading(take, lambda: counts.reshape(-1, self.bins))


def activation_states(h: Tensor, logits: Tensor, weight: Tensor, steepness: float) -> Tensor:
    """Sigmoid of each unit's activation times the slope of KL(u‖p) along it: (N, D) in [0, 1].

    Behind h (N, D) there is only the head with its weight (C, D), so that slope is ``Wᵀ(p−u)``: no
    backward pass is needed. ``steepness`` is α of the sigmoid; logits are (N, C), all float64.
    """
    slope = (logits.softmax(dim=1) - 1 / logits.shape[1]) @ weight
    return torch.sigmoid(steepness * h * slope)


def state_cells(states: Tensor, bins: int) -> Tensor:
    """Number the bin of every state, units one after the other: (N, D) → (N, D) int64.

    Where a unit has no effect the state is ½, up to rounding, and for an even number of bins that
    is an edge: a state within 1e-9 of a bin below an edge counts above it.
    """
    column = torch.arange(states.shape[1], device=states.device)
    return (states * bins + 1e-9).long().clamp_(max=bins - 1) + column * bins
