"""Activation shaping: reshape the penultimate features, then score the logits they give.

Every detector here is a chain of steps (:mod:`latentood.detectors.shaping_steps`) followed by
one of the logit scores.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentood.detectors.base import Detector, Needs, State, hyper
from latentood.detectors.head import checked_head
from latentood.detectors.logits import GEN, Energy, Entropy, MaxLogit, MaxSoftmax
from latentood.detectors.shaping_functions import concentration
from latentood.detectors.shaping_steps import (
    Clip, EvenOut, Prune, Rectify, Sharpen, Sparsify, Step,
)  # fmt: skip
from latentood.detectors.statistics_geometry import PENULTIMATE_FEATURES
from latentood.errors import DetectorError
from latentood.latents import HEAD, LOGITS, Latents, Statistic

LOGIT_SCORES = {cls.name: cls() for cls in (Energy, MaxSoftmax, MaxLogit, Entropy, GEN)}


def pruned_share(default: float, *, high: float = 100) -> Any:
    """Declare how much of a row its own percentile prunes."""
    return hyper(default, "p: percentage of a row's units below the cut", low=0, high=high)


@dataclass(frozen=True)
class LogitShaping(Detector):
    """Logits that were reshaped somehow, scored as logits are."""

    family = "shaping"
    logit_score: str = hyper("energy", "score of the new logits", choices=tuple(LOGIT_SCORES))

    @abstractmethod
    def logits(self, state: State, rows: Latents) -> Tensor:
        """Give the new logits (N, C) float64."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by their new logits: (N,)."""
        return LOGIT_SCORES[self.logit_score].of_logits(self.logits(state, rows))


@dataclass(frozen=True)
class ActivationShaping(LogitShaping):
    """Features through a chain of steps, then through the head: z' = W·h' + b."""

    @property
    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The chain, in order."""

    def needs(self) -> Needs:
        """Declare features and the head, and features of ID val rows where a step learns them."""
        learns = any(step.reads_val for step in self.steps)
        return Needs(
            score=(PENULTIMATE_FEATURES,),
            fit=(PENULTIMATE_FEATURES, HEAD),
            val=(PENULTIMATE_FEATURES,) if learns else (),
        )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for what the steps ask for."""
        return tuple(statistic for step in self.steps for statistic in step.statistics())

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep weight (C, D) and bias (C,) of the head, and what the steps learned."""
        weight, bias = checked_head(self.name, train)
        state = {"weight": weight, "bias": bias}
        for step in self.steps:
            rows = self.val_rows(val) if step.reads_val else train
            state |= step.learn(self.name, state["weight"], rows)
        return state

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Tell the thresholds, and the share of weights that are kept."""
        kept = float((state["weight"] != 0).double().mean())
        learned = {key: value for key, value in state.items() if key not in ("weight", "bias")}
        return {"weights_kept": kept} | {
            key: float(value) for key, value in learned.items() if value.numel() == 1
        }

    def logits(self, state: State, rows: Latents) -> Tensor:
        """Reshape the features and apply the head.

        Raises:
            DetectorError: A step sums activations, and one is negative.
        """
        activations = rows.double(PENULTIMATE_FEATURES)
        if any(step.needs_positive for step in self.steps):
            self._require_positive(activations, rows)
        for step in self.steps:
            activations = step.apply(state, activations)
        return activations @ state["weight"].mT + state["bias"]

    def _require_positive(self, activations: Tensor, rows: Latents) -> None:
        if bool((activations < 0).any()):
            row = int((activations < 0).any(dim=1).nonzero()[0])
            raise DetectorError(
                f"{self.name}: {PENULTIMATE_FEATURES} must be ≥ 0, as after a ReLU, got "
                f"{float(activations[row].min()):g} in row {rows.offset + row} of "
                f'"{rows.name}"; use react, vra, ash_p or lts, which do without sums of '
                "activations of one sign"
            )


@dataclass(frozen=True)
class ReAct(ActivationShaping):
    """Clip activations at a percentile of those of ID val rows: h' = min(h, t).

    Sun et al. 2021. One threshold for all units, exact whatever the number of rows.
    """

    name = "react"
    paper = "arXiv:2111.12797, sec. 3"
    works = "OOD that drives few units far beyond their usual range, as with batch normalisation."
    fails = "Features bounded already (tanh, LayerNorm), and thresholds near the bulk of ID."
    cost = "O(V·D) fit for V val rows in two passes, O(C·D) per row"
    percentile: float = hyper(
        90.0, "percentile of all activations of ID val rows that clips", above=0, high=100
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Clip."""
        return (Clip(self.percentile),)


@dataclass(frozen=True)
class DICE(ActivationShaping):
    """Keep the weights of the head that contribute most: mean(h) ⊙ W above its percentile.

    Sun and Li 2022; the mean is that of the fit rows. At percentile 0 only the smallest
    contribution is dropped, as it is not above itself.
    """

    name = "dice"
    paper = "arXiv:2111.09805, sec. 3"
    works = "Overparametrised heads, in which OOD collects many small spurious contributions."
    fails = "Narrow features, and sparsity so high that classes lose all their weights."
    cost = "O(N·D) fit, O(C·D) per row"
    sparsity: float = hyper(
        90.0, "percentage of the weights dropped: 90 for CIFAR, 70 for ImageNet", low=0, high=100
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sparsify the head."""
        return (Sparsify(self.sparsity),)


@dataclass(frozen=True)
class DICEReAct(ActivationShaping):
    """Dice and react together: the sparse head reads clipped activations.

    Sun and Li 2022 combine them so; contributions are those of activations before the clip.
    """

    name = "dice_react"
    paper = "arXiv:2111.09805, sec. 4; arXiv:2111.12797, sec. 3"
    works = "Where dice and react each help: one cuts noisy weights, the other noisy units."
    fails = "Both thresholds high: what is left of the head no longer separates classes."
    cost = "O(N·D + V·D) fit for V val rows, O(C·D) per row"
    sparsity: float = hyper(90.0, "percentage of the weights dropped", low=0, high=100)
    percentile: float = hyper(
        90.0, "percentile of all activations of ID val rows that clips", above=0, high=100
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sparsify the head and clip."""
        return (Sparsify(self.sparsity), Clip(self.percentile))


@dataclass(frozen=True)
class ASHP(ActivationShaping):
    """Prune the least active units of every row (ASH-P; Djurisic et al. 2023).

    The number kept is that of the authors' code, D − round(D·p/100), at least 1; units exactly
    as active as the last one kept stay too, so that no order of units decides.
    """

    name = "ash_p"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features: OOD relies more on many weak units."
    fails = "Little gain over energy by itself; the scaling of ash_s and scale does more."
    cost = "no fit, O(C·D) per row"
    percentile: float = pruned_share(60.0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Prune."""
        return (Prune(self.percentile),)


@dataclass(frozen=True)
class ASHB(ActivationShaping):
    """Prune, then set what is kept to s1/k, s1 the sum of the row before (ASH-B).

    Djurisic et al. 2023. k counts kept units that are active: where a row has fewer than
    D − round(D·p/100), it is spread over those. Needs activations ≥ 0.
    """

    name = "ash_b"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features on large images; which units are active matters, not how much."
    fails = "Negative activations (GELU, transformers: refused), and small images."
    cost = "no fit, O(C·D) per row"
    percentile: float = pruned_share(65.0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Even out."""
        return (EvenOut(self.percentile),)


@dataclass(frozen=True)
class ASHS(ActivationShaping):
    """Prune, then multiply what is kept by exp(s1/s2), the sums before and after (ASH-S).

    Djurisic et al. 2023. Needs activations ≥ 0. p stops at 99, beyond which exp may overflow.
    """

    name = "ash_s"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features: OOD spreads its activation, so ID logits grow more."
    fails = "Negative activations (GELU, transformers: refused), and OOD with few strong units."
    cost = "no fit, O(C·D) per row"
    percentile: float = pruned_share(90.0, high=99)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sharpen, then prune: scaling a row does not change which units are pruned."""
        return (Sharpen(self.percentile), Prune(self.percentile))


@dataclass(frozen=True)
class SCALE(ActivationShaping):
    """Multiply a row by exp(s1/s2), its sum over that of its most active units, unpruned.

    Xu et al. 2024. Needs activations ≥ 0. p stops at 99, beyond which exp may overflow.
    """

    name = "scale"
    paper = "arXiv:2310.00227, sec. 3"
    works = "As ash_s, without its loss of accuracy: pruning is what hurts, scaling what helps."
    fails = "Negative activations (GELU, transformers: refused), and OOD with few strong units."
    cost = "no fit, O(C·D) per row"
    percentile: float = pruned_share(85.0, high=99)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sharpen."""
        return (Sharpen(self.percentile),)
