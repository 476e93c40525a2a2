"""Taps that move an input a little, by its gradient, before they score it."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import field_validator
from torch import Tensor

from latentood.detectors.families.score_taps.base import Network, ScoreTap
from latentood.errors import ModelError
from latentood.plugins import hyper, plugin


@plugin
class Perturbing(ScoreTap):
    """A tap that takes one step of length ε in every value it moves."""

    epsilon: float = hyper(0.0014, "ε, length of the step", low=0)
    std: tuple[float, ...] = hyper(
        (),
        "standard deviations by which the transform divides the channels, so that ε is in the "
        "units of the pixels before it; empty: ε is in the units of the network's input",
    )

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(value) and value > 0 for value in std):
            raise ValueError("each must be > 0")
        return std

    def settle(self, network: Network) -> Self:
        """Check the channels, and that the model has gradients."""
        channels = network.probe.shape[1]
        if self.std and len(self.std) != channels:
            raise ModelError(
                f"{self.who}: std must have one value for each of the {channels} channels, got "
                f"{len(self.std)}; give those of the transform"
            )
        network.gradient(self.who, lambda x: network.logits(x).amax(dim=1), network.probe)
        return self

    def moved(self, inputs: Tensor, direction: Tensor) -> Tensor:
        """Take the step: inputs + ε·direction, by channel in units of ``std``; both are (B, …)."""
        if self.std:
            shape = [1, -1] + [1] * (inputs.dim() - 2)
            direction = direction / direction.new_tensor(self.std).view(shape)
        return inputs + self.epsilon * direction


def signs(gradient: Tensor) -> Tensor:
    """Give −1, 0 or 1 for each value; NaN stays what it is (``torch.sign`` would hide it as 0)."""
    return torch.where(gradient.isnan(), gradient, gradient.sign())


def mask_of_largest(values: Tensor, count: int, *, largest: bool = True) -> Tensor:
    """Mark the largest or smallest values of each row: (B, …) → (B, …) of 0 and 1."""
    flat = values.flatten(1)
    places = flat.topk(count, dim=1, largest=largest).indices
    return torch.zeros_like(flat).scatter_(1, places, 1.0).view(values.shape)
