"""Detectors that split whitened features into what tells classes apart and what does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, FeatureDetector, Ridge, State
from latentood.detectors.checks import checked_whitener
from latentood.detectors.statistics import ClassMeans, ClassMoments, Moments
from latentood.errors import DetectorError
from latentood.latents import LABELS, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import lengths, nearest_squared

_NEGLIGIBLE = 1e-9  # of the largest spread, and of one whitened unit: class means agree


@plugin
class WDiscOOD(FeatureDetector):
    """Distance to the nearest class where classes differ, plus to the centre where they agree.

    Features are whitened by the covariance within classes. ``min_c ‖G(h−μ_c)‖ + α·‖R(h−μ)‖`` with G
    the leading ``dim`` directions of the scatter of the class means, every class counted once,
    and R all directions at right angles to them; Chen et al. 2023. The paper keeps 1,000
    directions of ImageNet's ResNet-50 and 512 of ViT-B, with α = 5 and 1; class means span fewer
    directions than there are classes, so ``dim`` can be no larger. The covariance gets a ridge,
    so that any rank works.
    """

    name = "wdiscood"
    family = "prototypes"
    paper = "arXiv:2303.07543, sec. 3"
    works = "OOD that is new to the classes and OOD off all of them; needs no logits."
    fails = "Few rows per class: whitening then stretches directions nobody measured."
    cost = "O(N·D² + D³) fit, O(D² + C·dim) per row"
    cannot_fit_on = ("one row", "one class")
    fit_reads = (LABELS,)
    asks = (Moments, ClassMeans, ClassMoments)
    alpha: float = hyper(
        5.0,
        "weight of the distance where classes agree: 5, 1 for ViT-B",
        low=0,
        tries=(0.0, 1.0, 5.0, 10.0),
    )
    dim: int = hyper(0, "directions where classes differ; 0 = all there are", low=0)
    ridge: Ridge = RIDGE

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,), the whitened directions (D, D) and the class means (K, dim)."""
        mean = train.compute(Moments(self.key)).mean
        classes = train.compute(ClassMoments(self.key))
        who = f"{self.name}: {self.key}"
        whitener = checked_whitener(who, classes.tied, self.ridge, train)
        means = (classes.means - mean) @ whitener
        _, spread, axes = torch.linalg.svd(means, full_matrices=True)
        dim = self._dim(int((spread > _NEGLIGIBLE * spread[0].clamp(min=1.0)).sum()), train)
        return {
            "mean": mean,
            "directions": whitener @ axes.mT,
            "means": means @ axes[:dim].mT,
            "rank": torch.tensor(classes.tied.rank),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the directions in which classes differ, and the rank of the covariance."""
        dim, width = state["means"].shape[1], len(state["mean"])
        return {"dim": dim, "width": width, "rank": int(state["rank"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Add both distances: (N,) ≥ 0."""
        dim = state["means"].shape[1]
        whitened = (rows.double(self.key) - state["mean"]) @ state["directions"]
        nearest = nearest_squared(whitened[:, :dim], state["means"]).sqrt()
        return nearest + self.alpha * lengths(whitened[:, dim:])

    def _dim(self, available: int, train: Latents) -> int:
        """Choose how many directions separate classes."""
        if available == 0:
            raise DetectorError(
                f"{self.name}: the means of {self.key} must differ between classes, got "
                f'{len(train)} rows of "{train.name}" where they do not; fit on rows of several '
                "classes, or use mahalanobis"
            )
        if self.dim > available:
            raise DetectorError(
                f"{self.name}: dim must be ≤ the {available} directions in which class means "
                f"differ, got {self.dim}; lower dim, or leave it at 0 for all"
            )
        return self.dim or available
