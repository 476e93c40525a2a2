"""Activation shaping that uses one row alone and learns nothing: ash, scale, lts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from latentood.detectors.base import State
from latentood.detectors.families.shaping.base import ActivationShaping, LogitShaping
from latentood.detectors.families.shaping.steps import EvenOut, Prune, Sharpen, Step
from latentood.latents import LOGITS, PENULTIMATE_FEATURES, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.activations import concentration


def pruned_share(default: float, *, high: float = 100) -> Any:
    """Declare how much of a row is pruned."""
    return hyper(
        default,
        "p: percentage of the units of a row that is pruned",
        low=0,
        high=high,
        tries=(60.0, 70.0, 80.0, 85.0, 90.0, 95.0),
    )


@plugin
class ASHP(ActivationShaping):
    """Prune the least active units of every row (ASH-P; Djurisic et al. 2023).

    The number kept is that of the authors' code, D − round(D·p/100), at least 1; units exactly
    as active as the last one kept stay too, so that no order of units decides.
    """

    name = "ash_p"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features: OOD relies more on many weak units."
    fails = "Little gain over energy by itself; the scaling of ash_s and scale does more."
    percentile: float = pruned_share(60.0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Prune."""
        return (Prune(self.percentile),)


@plugin
class ASHB(ActivationShaping):
    """Prune, then set what is kept to s1/k, s1 the sum of the row before (ASH-B).

    Djurisic et al. 2023. k counts kept units that are active: where a row has fewer than
    D − round(D·p/100), it is spread over those. Needs activations ≥ 0.
    """

    name = "ash_b"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features on large images; which units are active matters, not how much."
    fails = "Negative activations (GELU, transformers: refused), and small images."
    cannot_fit_on = ("negative features",)
    percentile: float = pruned_share(65.0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Even out."""
        return (EvenOut(self.percentile),)


@plugin
class ASHS(ActivationShaping):
    """Prune, then multiply what is kept by exp(s1/s2), the sums before and after (ASH-S).

    Djurisic et al. 2023. Needs activations ≥ 0. p stops at 99, beyond which exp may overflow.
    """

    name = "ash_s"
    paper = "arXiv:2209.09858, sec. 3"
    works = "Wide ReLU features: OOD spreads its activation, so ID logits grow more."
    fails = "Negative activations (GELU, transformers: refused), and OOD with few strong units."
    cannot_fit_on = ("negative features",)
    percentile: float = pruned_share(90.0, high=99)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sharpen, then prune: scaling a row does not change which units are pruned."""
        return (Sharpen(self.percentile), Prune(self.percentile))


@plugin
class SCALE(ActivationShaping):
    """Multiply a row by exp(s1/s2), its sum over that of its most active units, unpruned.

    Xu et al. 2024. Needs activations ≥ 0. p stops at 99, beyond which exp may overflow.
    """

    name = "scale"
    paper = "arXiv:2310.00227, sec. 3"
    works = "As ash_s, without its loss of accuracy: pruning is what hurts, scaling what helps."
    fails = "Negative activations (GELU, transformers: refused), and OOD with few strong units."
    cannot_fit_on = ("negative features",)
    percentile: float = pruned_share(85.0, high=99)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Sharpen."""
        return (Sharpen(self.percentile),)


@plugin
class LTS(LogitShaping):
    """Multiply the logits by (s1/s2)², the sum of relu(h) over that of its most active units.

    Djurisic et al. 2024. The relu is in their code, not in the paper; with it, negative
    activations do no harm. The number of units is D − round(D·(1−p)), at least 1. A row without
    positive activations keeps its logits.
    """

    name = "lts"
    paper = "arXiv:2409.01175, sec. 3"
    works = "Any architecture, transformers included: needs neither the head nor a fit."
    fails = "Features whose few strongest units hold nearly all activation, ID and OOD alike."
    cost = "no fit, O(D + C) per row"
    reads = (PENULTIMATE_FEATURES, LOGITS)
    top: float = hyper(
        5.0,
        "percentage of most active units in s2",
        above=0,
        high=100,
        tries=(1.0, 2.5, 5.0, 10.0, 15.0),
    )

    def logits(self, state: State, rows: Latents) -> Tensor:
        """Scale the logits (N, C)."""
        active = rows.double(PENULTIMATE_FEATURES).relu()
        return rows.double(LOGITS) * concentration(active, 100 - self.top).square()
