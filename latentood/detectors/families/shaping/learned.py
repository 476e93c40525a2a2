"""Activation shaping with what is learned from ID rows: react, vra, dice, radial."""

from __future__ import annotations

from typing import Any

from latentood.detectors.base import Seed
from latentood.detectors.families.shaping.base import ActivationShaping
from latentood.detectors.families.shaping.steps import Clip, Radial, Rectify, Sparsify, Step
from latentood.detectors.statistics.radial import RadialPower, check_powers, powers
from latentood.errors import DetectorError
from latentood.latents import PENULTIMATE_FEATURES
from latentood.plugins import hyper, plugin


def clip_percentile() -> Any:
    """Declare the percentile react clips at."""
    return hyper(
        90.0,
        "percentile of all activations of ID val rows that clips",
        above=0,
        high=100,
        tries=(80.0, 85.0, 90.0, 95.0, 99.0),
    )


def dropped_share() -> Any:
    """Declare how many weights of the head dice drops."""
    return hyper(
        90.0,
        "percentage of the weights dropped: 90 for CIFAR, 70 for ImageNet",
        low=0,
        high=100,
        tries=(10.0, 30.0, 50.0, 70.0, 90.0),
    )


@plugin
class ReAct(ActivationShaping):
    """Clip activations at a percentile of those of ID val rows: h' = min(h, t).

    Sun et al. 2021. One threshold for all units, exact whatever the number of rows.
    """

    name = "react"
    paper = "arXiv:2111.12797, sec. 3"
    works = "OOD that drives few units far beyond their usual range, as with batch normalisation."
    fails = "Features bounded already (tanh, LayerNorm), and thresholds near the bulk of ID."
    cost = "O(V·D) fit for V val rows in two passes, O(C·D) per row"
    percentile: float = clip_percentile()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Clip."""
        return (Clip(self.percentile),)


@plugin
class VRA(ActivationShaping):
    """Silence activations below one percentile of those of ID val rows, clip above another.

    ``h' = 0 if h < α, β if h > β, else h``: VRA-P of Xu et al. 2023 (OpenOOD and pytorch-ood clip
    to α instead of silencing). α and β are thresholds for all units, as for react;
    ``per_unit`` gives every unit its own, as the authors' commands for CIFAR do.
    """

    name = "vra"
    paper = "arXiv:2302.11716, sec. 3"
    works = "Where react works: weak activations are noise as well, and are taken out too."
    fails = "Narrow features, where 60 % silenced units leave too little to classify with."
    cost = "O(V·D) fit for V val rows in two passes (four per unit), O(C·D) per row"
    low: float = hyper(
        60.0,
        "percentile below which activations are silenced",
        low=0,
        high=100,
        tries=(50.0, 60.0, 70.0),
    )
    high: float = hyper(
        95.0, "percentile above which they are clipped", above=0, high=100, tries=(90.0, 95.0, 99.0)
    )
    per_unit: bool = hyper(False, "whether every unit has thresholds of its own")

    def __post_init__(self) -> None:
        """Check that something lies between the percentiles."""
        if self.low >= self.high:
            raise DetectorError(
                f"{self.name}: low must be < high, got low={self.low} and high={self.high}; the "
                "paper has 60 and 95"
            )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Rectify."""
        return (Rectify(self.low, self.high, self.per_unit),)


@plugin
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
    sparsity: float = dropped_share()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sparsify the head."""
        return (Sparsify(self.sparsity),)


@plugin
class DICEReAct(ActivationShaping):
    """Dice and react together: the sparse head reads clipped activations.

    Sun and Li 2022 combine them so; contributions are those of activations before the clip.
    """

    name = "dice_react"
    paper = "arXiv:2111.09805, sec. 4; arXiv:2111.12797, sec. 3"
    works = "Where dice and react each help: one cuts noisy weights, the other noisy units."
    fails = "Both thresholds high: what is left of the head no longer separates classes."
    cost = "O(N·D + V·D) fit for V val rows, O(C·D) per row"
    sparsity: float = dropped_share()
    percentile: float = clip_percentile()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sparsify the head and clip."""
        return (Sparsify(self.sparsity), Clip(self.percentile))


@plugin
class RadialShaping(ActivationShaping):
    """Divide a row by a power of its length, which keeps its direction: h' = h/‖h‖^β.

    The scaling of Janiak, Binkowski and Kajdanowicz 2025, before the head; they apply it before
    Mahalanobis distances, as ``mahalanobis_radial`` does, and β is chosen as there, from fit rows.
    The head reads shorter features than it was trained on where β > 0, so that its bias counts for
    more: logits of rows of length 1 (``betas=[1]``) are those of their direction.
    """

    name = "radial"
    paper = "arXiv:2510.15202, abstract"
    works = "OOD whose features are long but point nowhere: their length no longer makes them sure."
    fails = "OOD that shows by short features, and heads whose bias is not small."
    cost = "O(N·D + n·D²) fit for n ≤ 4096 rows and each β, O(C·D) per row"
    betas: tuple[float, ...] = powers()
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check that there is a power."""
        check_powers(self.name, self.betas)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Scale."""
        return (Radial(RadialPower(PENULTIMATE_FEATURES, self.betas, self.seed)),)
