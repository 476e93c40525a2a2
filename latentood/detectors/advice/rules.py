"""Rules from measures of ID rows to families of detectors, as data.

Every rule is a heuristic: it follows from what a family assumes, as its source has it. No threshold
was fitted. The sources rarely name numbers; the thresholds are round ones at which the assumption
plainly holds or plainly fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Outcome = Literal["likely", "uncertain", "unlikely"]
"""What a rule, or all rules of a family, say of it."""

OUTCOMES: Mapping[Outcome, int] = MappingProxyType({"likely": 1, "uncertain": 0, "unlikely": -1})

Place = Literal["layer", "penultimate", "entropy", "network"]
"""Where a family looks: features of any layer, of the penultimate one alone, entropies over the
passes of a layer, or logits."""


@dataclass(frozen=True)
class Family:
    """Detectors that assume the same of ID rows."""

    place: Place
    detectors: tuple[str, ...]  # the one that stands for the family first


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "softmax": Family("network", ("msp", "entropy", "gen")),
        "logits": Family("network", ("energy", "max_logit")),
        "monte carlo": Family("network", ("predictive_entropy", "mutual_information")),
        "evidential": Family("network", ("vacuity", "precision")),
        "mahalanobis": Family("layer", ("mahalanobis", "mahalanobis_radial", "ssd")),
        "relative mahalanobis": Family("layer", ("rmd",)),
        "class densities": Family("layer", ("ddu",)),
        "subspace": Family("layer", ("vim", "residual", "pca_reconstruction")),
        "collapse": Family("layer", ("neco", "nci", "fdbd", "dknn")),
        "neighbours": Family("layer", ("knn", "cfood")),
        "kernel density": Family("layer", ("kde",)),
        "prototypes": Family("layer", ("cosine", "she", "wdiscood")),
        "shaping": Family("penultimate", ("scale", "ash_s", "react", "vra")),
        "gradient": Family("penultimate", ("gradnorm",)),
        "latent entropy": Family("entropy", ("larem", "lared")),
    }
)
"""Name → family; those that need least come first."""


@dataclass(frozen=True)
class Rule:
    """A measure, and the values at which it speaks for a family or against it.

    Where ``likely`` is above ``unlikely``, large values speak for it, else small ones. At either
    threshold, or beyond, the outcome is that; between them it is uncertain.
    """

    family: str
    measure: str
    likely: float
    unlikely: float
    reason: str  # what the family assumes
    source: str
    decides: bool = False  # whether an unlikely outcome is enough, whatever other rules say

    def outcome(self, value: float) -> Outcome:
        """Say what a value means."""
        sign = math.copysign(1.0, self.likely - self.unlikely)
        if sign * value >= sign * self.likely:
            return "likely"
        return "unlikely" if sign * value <= sign * self.unlikely else "uncertain"

    @property
    def condition(self) -> str:
        """Write when the rule speaks for the family: ``nc1 ≤ 0.1``."""
        sign = "≥" if self.likely > self.unlikely else "≤"
        return f"{self.measure} {sign} {self.likely:g}"


RULES: tuple[Rule, ...] = (
    Rule("softmax", "accuracy", 0.9, 0.6,
         "a good classifier is also unsure where it should be",
         "arXiv:2110.06207"),
    Rule("softmax", "certain", 0.5, 0.9,
         "probabilities that round to 1 rank nothing",
         "arXiv:2010.03759"),
    Rule("softmax", "overconfidence", 0.02, 0.1,
         "confidence must mean accuracy",
         "arXiv:1706.04599"),
    Rule("logits", "accuracy", 0.9, 0.6,
         "a good classifier has smaller logits where it knows less",
         "arXiv:2110.06207"),
    Rule("logits", "norm_wrong", 0.9, 1.0,
         "what the network does not know must have short features, so small logits",
         "arXiv:1811.04110"),
    Rule("monte carlo", "pass_information", 0.01, 0.001,
         "passes must differ in what they predict",
         "arXiv:1803.08533", decides=True),
    Rule("evidential", "evidential", 1.0, 0.0,
         "evidence means something only if the network was trained to give it",
         "arXiv:1806.01768", decides=True),
    Rule("mahalanobis", "silhouette", 0.3, 0.05,
         "one covariance for all classes fits compact, separate classes",
         "arXiv:1807.03888"),
    Rule("mahalanobis", "norm_spread", 0.15, 0.4,
         "lengths that vary make the covariance wide along them",
         "arXiv:2505.18032"),
    Rule("mahalanobis", "rows_by_width", 10.0, 1.0,
         "a covariance needs more rows than dimensions",
         "arXiv:1807.03888"),
    Rule("relative mahalanobis", "fisher", 0.5, 4.0,
         "it takes out spread that all classes share, which must be large",
         "arXiv:2106.09022"),
    Rule("relative mahalanobis", "rows_by_width", 10.0, 1.0,
         "both covariances need more rows than dimensions",
         "arXiv:2106.09022"),
    Rule("class densities", "class_rows_by_width", 5.0, 1.0,
         "a covariance for each class needs more rows of it than dimensions",
         "arXiv:2102.11582", decides=True),
    Rule("class densities", "ncm_accuracy", 0.95, 0.8,
         "each class must be one cloud of its own",
         "arXiv:2102.11582"),
    Rule("subspace", "effective_share", 0.25, 0.6,
         "ID rows must leave directions unused",
         "arXiv:2203.10807"),
    Rule("subspace", "width_by_classes", 8.0, 2.0,
         "a layer must be wide enough to leave directions over",
         "arXiv:2203.10807"),
    Rule("collapse", "nc1", 0.1, 1.0,
         "rows must have collapsed to their class means",
         "arXiv:2310.06823, arXiv:2008.08186"),
    Rule("collapse", "nc2_simplex", 0.1, 0.3,
         "class means must be spread evenly",
         "arXiv:2310.06823, arXiv:2008.08186"),
    Rule("collapse", "nc3", 0.3, 1.0,
         "class means must point along the weights of the head",
         "arXiv:2311.01479"),
    Rule("neighbours", "effective_rank", 50.0, 300.0,
         "in many directions all distances are alike",
         "Beyer et al. 1999, ICDT"),
    Rule("neighbours", "ncm_accuracy", 0.9, 0.5,
         "near rows must be of one class",
         "arXiv:2204.06507"),
    Rule("kernel density", "effective_rank", 10.0, 50.0,
         "a kernel density needs few directions",
         "Scott 1992, Multivariate Density Estimation"),
    Rule("prototypes", "nc4", 0.95, 0.8,
         "the nearest class mean must be what the network predicts",
         "arXiv:2008.08186"),
    Rule("prototypes", "silhouette", 0.3, 0.05,
         "rows must be nearer to their class mean than to any other",
         "openreview.net/forum?id=KkazG4lgKL"),
    Rule("shaping", "rectified", 1.0, 0.0,
         "what is cut or scaled are activations after a ReLU",
         "arXiv:2209.09858, arXiv:2310.00227", decides=True),
    Rule("shaping", "width", 512.0, 128.0,
         "a percentile of a row needs many units",
         "arXiv:2310.00227"),
    Rule("shaping", "kurtosis", 3.0, 20.0,
         "ID units must have no long tails themselves",
         "arXiv:2111.12797"),
    Rule("gradient", "norm_logit", 0.5, 0.1,
         "the length of the features must go with the logits",
         "arXiv:2110.00218"),
    Rule("gradient", "classes", 100.0, 10.0,
         "near chance on small images with few classes in a large comparison",
         "arXiv:2306.09301"),
    Rule("latent entropy", "entropy_spread", 0.3, 0.05,
         "the entropies over passes must vary",
         "proceedings.mlr.press/v244/arnez24a.html", decides=True),
    Rule("latent entropy", "entropy_rows", 10.0, 1.0,
         "a covariance of entropies needs more rows than dimensions",
         "proceedings.mlr.press/v244/arnez24a.html"),
)  # fmt: skip
"""All rules, by family."""
