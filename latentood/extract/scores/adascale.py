"""AdaSCALE: activations scaled the less, the more they shift when the input is changed."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from latentood.errors import DataError
from latentood.extract.scores.network import Network
from latentood.extract.scores.perturbation import Perturbing, mask_of_largest, signs
from latentood.latents import Latents


@dataclass(frozen=True)
class ActivationShift(Perturbing):
    """Q′ = λ·Q + C, how far the largest activations shift when unimportant inputs are changed.

    The input's values with the smallest |∂z_ŷ/∂x| make a step of ε that raises the logit z_ŷ of
    the predicted class. Of the penultimate activations a before and a′ after it, Q is the sum of
    |a′ − a| over the largest of a, and C the sum of relu(a′) over more of them.
    """

    name = "adascale.shift"
    paper = "arXiv:2503.08023, sec. 4"
    epsilon: float = Field(0.5, ge=0, allow_inf_nan=False, description="ε, length of the step")
    moved_share: float = Field(0.05, gt=0, le=1, description="o, share of the input's values moved")
    shift_share: float = Field(
        0.01, gt=0, le=1, description="k₂, share of the activations whose shift counts"
    )
    correction_share: float = Field(
        0.05, gt=0, le=1, description="k₁, share of the activations in the correction term"
    )
    weight: float = Field(10.0, ge=0, allow_inf_nan=False, description="λ, weight of the shift")

    def settle(self, network: Network) -> Self:
        """Check that there is a head."""
        network.head(self.who)
        return super().settle(network)

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Give Q′: (B,) ≥ 0, larger for OOD."""
        return self.observe(network, inputs)[1]

    def observe(self, network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Give the activations (B, D) and their Q′ (B,)."""
        tap = network.head(self.who)[0]
        gradient = network.gradient(self.who, lambda x: network.logits(x).amax(dim=1), inputs)
        count = _share(self.moved_share, gradient[0].numel())
        unimportant = mask_of_largest(gradient.abs(), count, largest=False)
        with torch.no_grad():
            before = network.features(tap, inputs)[0]
            after = network.features(tap, self.moved(inputs, signs(gradient) * unimportant))[0]
        order = before.argsort(dim=1, descending=True, stable=True)
        shifts = (after - before).abs().gather(1, order)
        corrections = after.relu().gather(1, order)
        width = before.shape[1]
        shift = shifts[:, : _share(self.shift_share, width)].sum(dim=1)
        correction = corrections[:, : _share(self.correction_share, width)].sum(dim=1)
        return before, self.weight * shift + correction


@dataclass(frozen=True)
class AdaSCALE(ActivationShift):
    """−logsumexp of the logits, scaled less the more the activations of an input shift.

    Regmi 2025. The percentile is p = low + (1 − F(Q′))·(high − low), with F the distribution of Q′
    over the fit rows (the paper: over ID validation rows). r = Σ relu(a) / Σ of the largest
    (100 − p)% of it; the activations are multiplied by exp(r), or the logits by r². At least one
    value always counts, also where a share of a narrow layer rounds to none.
    """

    name = "adascale"
    low: float = Field(75.0, ge=0, lt=100, description="p_min, percentile of the largest shifts")
    high: float = Field(85.0, ge=0, lt=100, description="p_max, percentile of the smallest shifts")
    scaled: Literal["activations", "logits"] = Field(
        "activations", description="what is scaled: AdaSCALE-A or AdaSCALE-L"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must be ≤ high")
        return self

    def companion(self) -> ActivationShift:
        """Give the tap that keeps Q′ of the fit rows."""
        shared = ActivationShift.__dataclass_fields__
        return ActivationShift(**{n: v for n, v in self.hyperparameters().items() if n in shared})

    def reads(self) -> tuple[str, ...]:
        """Declare Q′ of the fit rows."""
        return (self.companion().column,)

    def prepare(self, network: Network, fit: Latents) -> Tensor:
        """Sort Q′ of the fit rows: (N,) float64."""
        shifts = fit.double(self.companion().column)
        if len(shifts) == 0:
            raise DataError(f"{self.who}: {fit.name} must have rows, got none; extract some")
        return shifts.sort().values.to(network.device)

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Scale, then take the energy: (B,)."""
        _, weight, bias = network.head(self.who)
        activations, shift = self.observe(network, inputs)
        below = torch.searchsorted(state, shift, right=True) / len(state)
        percentile = self.low + (1 - below.double()) * (self.high - self.low)
        ratio = scale_ratio(activations, percentile).unsqueeze(1)
        if self.scaled == "logits":
            return -torch.logsumexp((activations @ weight.mT + bias) * ratio.square(), dim=1)
        return -torch.logsumexp(activations * ratio.exp() @ weight.mT + bias, dim=1)


def scale_ratio(activations: Tensor, percentile: Tensor) -> Tensor:
    """Divide the sum of positive activations by that of their largest ones.

    Args:
        activations: (B, D).
        percentile: (B,) in [0, 100), share of each row's activations that are not the largest.

    Returns:
        (B,) ≥ 1; 1 where no activation is positive.
    """
    running = activations.relu().sort(dim=1, descending=True).values.cumsum(dim=1)
    width = activations.shape[1]
    counts = (width - (width * percentile / 100).round().long()).clamp(min=1)
    largest = running.gather(1, counts.unsqueeze(1) - 1).squeeze(1)
    return torch.where(largest > 0, running[:, -1] / largest, 1.0)


def _share(share: float, of: int) -> int:
    return max(1, int(of * share))
