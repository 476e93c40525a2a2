"""AdaSCALE: activations scaled the less, the more they shift when the input is changed."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor

from latentood.detectors.families.logits.scores import Energy
from latentood.detectors.families.score_taps.base import Network
from latentood.detectors.families.score_taps.perturbation import Perturbing, mask_of_largest, signs
from latentood.errors import ConfigError, DataError
from latentood.latents import Latents
from latentood.plugins import hyper, plugin
from latentood.stats.activations import concentration_by_row


@plugin
class ActivationShift(Perturbing):
    """Q′ = λ·Q + C, how far the largest activations shift when unimportant inputs are changed.

    The input's values with the smallest |∂z_ŷ/∂x| make a step of ε that raises the logit z_ŷ of
    the predicted class. Of the penultimate activations a before and a′ after it, Q is the sum of
    |a′ − a| over the largest of a, and C the sum of relu(a′) over more of them.
    """

    name = "adascale.shift"
    paper = "arXiv:2503.08023, sec. 4"
    epsilon: float = hyper(0.5, "ε, length of the step", low=0)
    moved_share: float = hyper(0.05, "o, share of the input's values moved", above=0, high=1)
    shift_share: float = hyper(
        0.01, "k₂, share of the activations whose shift counts", above=0, high=1
    )
    correction_share: float = hyper(
        0.05, "k₁, share of the activations in the correction term", above=0, high=1
    )
    weight: float = hyper(10.0, "λ, weight of the shift", low=0)

    def settle(self, network: Network) -> Self:
        """Check that there is a head."""
        network.head(self.who)
        return super().settle(network)

    def score(self, network: Network, inputs: Tensor, state: Any) -> Tensor:
        """Give Q′: (B,) ≥ 0, larger for OOD."""
        return self.observe(network, inputs)[1]

    def observe(self, network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Give the activations (B, D) and their Q′ (B,)."""
        gradient = network.gradient(self.who, lambda x: network.logits(x).amax(dim=1), inputs)
        count = _share(self.moved_share, gradient[0].numel())
        unimportant = mask_of_largest(gradient.abs(), count, largest=False)
        with torch.no_grad():
            before = network.head_input(inputs)
            after = network.head_input(self.moved(inputs, signs(gradient) * unimportant))
        order = before.argsort(dim=1, descending=True, stable=True)
        shifts = (after - before).abs().gather(1, order)
        corrections = after.relu().gather(1, order)
        width = before.shape[1]
        shift = shifts[:, : _share(self.shift_share, width)].sum(dim=1)
        correction = corrections[:, : _share(self.correction_share, width)].sum(dim=1)
        return before, self.weight * shift + correction


@plugin
class AdaSCALE(ActivationShift):
    """−logsumexp of the logits, scaled less the more the activations of an input shift.

    Regmi 2025. The percentile is p = low + (1 − F(Q′))·(high − low), with F the distribution of Q′
    over the fit rows (the paper: over ID validation rows). r = Σ relu(a) / Σ of the largest
    (100 − p)% of it; the activations are multiplied by exp(r), or the logits by r². At least one
    value always counts, also where a share of a narrow layer rounds to none.
    """

    name = "adascale"
    works = "ReLU networks with wide penultimate layers; near OOD better than scale."
    fails = "Narrow layers, where a percentile of a few values jumps; negative activations."
    cost = "one forward with gradients and two without"
    low: float = hyper(75.0, "p_min, percentile of the largest shifts", low=0, below=100)
    high: float = hyper(85.0, "p_max, percentile of the smallest shifts", low=0, below=100)
    scaled: Literal["activations", "logits"] = hyper(
        "activations", "what is scaled: AdaSCALE-A or AdaSCALE-L"
    )

    def __post_init__(self) -> None:
        """Check that the percentiles are in order."""
        if self.low > self.high:
            raise ConfigError(
                f"{self.who}: low must be ≤ high, got low={self.low} and high={self.high}; "
                f"{self.remedy}"
            )

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
        weight, bias = network.head(self.who)
        activations, shift = self.observe(network, inputs)
        below = torch.searchsorted(state, shift, right=True) / len(state)
        percentile = self.low + (1 - below.double()) * (self.high - self.low)
        ratio = concentration_by_row(activations.relu(), percentile)
        if self.scaled == "logits":
            return Energy().of_logits((activations @ weight.mT + bias) * ratio.square())
        return Energy().of_logits(activations * ratio.exp() @ weight.mT + bias)


def _share(share: float, of: int) -> int:
    return max(1, int(of * share))
