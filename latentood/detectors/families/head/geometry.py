"""Detectors that read features by the geometry of the head, the last linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, FeatureDetector, Needs, State
from latentood.detectors.checks import checked_head, one_class
from latentood.detectors.statistics.moments import Mean
from latentood.errors import DetectorError
from latentood.latents import HEAD, LOGITS, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import lengths

NEAREST = 1e-10
"""Smallest distance divided by, so that a row on the spot scores as extreme, not as NaN."""


@plugin
class HeadDetector(Detector):
    """A detector that measures penultimate features from their mean, along the head."""

    family = "head"
    reads = (PENULTIMATE_FEATURES, LOGITS)
    fit_reads = (PENULTIMATE_FEATURES, LOGITS, HEAD)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the mean."""
        return (Mean(PENULTIMATE_FEATURES),)


@plugin
class FDBD(HeadDetector):
    """Mean distance to the decision boundaries, by distance from the mean of the features.

    ``−mean_{c≠ŷ} |z_c−z_ŷ| / ‖w_c−w_ŷ‖ / ‖h−μ‖``; Liu and Qin 2024. The distance to the mean is
    held at ≥ 1e-10.
    """

    name = "fdbd"
    paper = "arXiv:2312.11536, sec. 3"
    works = "A cheap default with wide features: ID rows lie far from all boundaries."
    fails = "OOD along the weights of one class, and classes so many that boundaries blur."
    cost = "O(N·D + C²·D) fit, O(C + D) per row"

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,) and the lengths of all weight differences (C, C)."""
        weight, _ = checked_head(self.name, train)
        # The expanded square cancels between weights that are alike, so this is the direct one.
        gaps = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        twins = (gaps == 0).triu(diagonal=1).nonzero()
        if len(twins):
            raise DetectorError(
                f"{self.name}: the classes of the head must have weights of their own, got equal "
                f"ones for {int(twins[0, 0])} and {int(twins[0, 1])}; merge these classes"
            )
        return {"mean": train.compute(Mean(PENULTIMATE_FEATURES)), "gaps": gaps.fill_diagonal_(1.0)}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Average the distances: (N,) ≤ 0."""
        logits = rows.double(LOGITS)
        best, predicted = logits.max(dim=1, keepdim=True)
        # The predicted class adds 0, so that the sum is over the others.
        total = ((best - logits) / state["gaps"][predicted.squeeze(1)]).sum(dim=1)
        spread = lengths(rows.double(PENULTIMATE_FEATURES) - state["mean"]).clamp(min=NEAREST)
        return -total / (logits.shape[1] - 1) / spread


@plugin
class NCI(HeadDetector):
    """How little centred features point along the weight of their class, and how short they are.

    ``−⟨w_ŷ, h−μ⟩/‖h−μ‖ − α·‖h‖₁``; Liu and Qin 2025. w_ŷ keeps its length, as in the paper's
    pScore. The distance to the mean is held at ≥ 1e-10.
    """

    name = "nci"
    paper = "arXiv:2311.01479, sec. 3"
    works = "Classifiers trained long enough that features collapse onto the weights."
    fails = "Weights of very different lengths, and networks stopped early."
    cost = "O(N·D) fit, O(D) per row"
    alpha: float = hyper(
        1e-4,
        "weight of the length of the features; tune it on ID val",
        low=0,
        tries=(0.0, 1e-4, 1e-3, 1e-2),
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,) and the weight (C, D)."""
        weight, _ = checked_head(self.name, train)
        return {"mean": train.compute(Mean(PENULTIMATE_FEATURES)), "weight": weight}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Subtract proximity and length: (N,)."""
        h = rows.double(PENULTIMATE_FEATURES)
        centred = h - state["mean"]
        along = (state["weight"][rows[LOGITS].argmax(dim=1)] * centred).sum(dim=1)
        return -along / lengths(centred).clamp(min=NEAREST) - self.alpha * h.abs().sum(dim=1)


@plugin
class GradNorm(Detector):
    """Length of the gradient of the head, for a loss towards the uniform distribution.

    ``−‖C·p−1‖₁·‖h‖₁``: the gradient of ``−Σ_c log p_c`` by the weights of the head is the outer
    product of C·p−1 and h, so its 1-norm needs no backward pass. The KL divergence of the paper
    has the mean over classes where its code, and this, has the sum: C times as large.
    """

    name = "gradnorm"
    family = "head"
    paper = "arXiv:2110.00218, sec. 3"
    works = "Features that are long and predictions that are sure for ID inputs, as on ImageNet."
    fails = "Small images and residual networks of CIFAR size: near chance in large benchmarks."
    cost = "no fit, O(C + D) per row"
    reads = (PENULTIMATE_FEATURES, LOGITS)

    def score(self, state: State, rows: Latents) -> Tensor:
        """Multiply both norms: (N,) ≤ 0."""
        logits = rows.double(LOGITS)
        if logits.shape[1] < 2:
            raise one_class(self.name)
        output = (logits.shape[1] * logits.softmax(dim=1) - 1).abs().sum(dim=1)
        return -output * rows.double(PENULTIMATE_FEATURES).abs().sum(dim=1)


@plugin
class FeatureNorm(FeatureDetector):
    """Length of the features, negated: −‖h‖, a baseline.

    Dhamija et al. 2018 observe that unknown inputs have shorter features than known ones even
    without training for it. Later work takes the norm of a chosen chunk instead.
    """

    name = "feature_norm"
    family = "head"
    paper = "arXiv:1811.04110, sec. 3"
    works = "Networks without normalised features; what part of another score is length alone?"
    fails = "Features after layer normalisation or scaled to length 1, and bright or noisy OOD."
    cost = "no fit, O(D) per row"

    def needs(self) -> Needs:
        """Declare features."""
        return Needs(score=(self.key,))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Negate the length: (N,) ≤ 0."""
        return -lengths(rows.double(self.key))
