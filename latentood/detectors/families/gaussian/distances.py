"""Detectors that measure distances under Gaussians fitted to features."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, FeatureDetector, Ridge, State
from latentood.detectors.checks import checked_whitener
from latentood.detectors.statistics import ClassMeans, ClassMoments, Moments, UnitMoments
from latentood.latents import LABELS, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import condition_of, nearest_squared, unit_rows

log = logging.getLogger(__name__)


@plugin
class Mahalanobis(FeatureDetector):
    """Squared distance to the nearest class mean under one covariance shared by all classes.

    ``min_c (h−μ_c)ᵀ Σ⁻¹ (h−μ_c)`` with class means from the true labels; Lee et al. 2018,
    without their input perturbation and layer weights. Σ gets a ridge, so that any rank works.
    """

    name = "mahalanobis"
    family = "gaussian"
    paper = "arXiv:1807.03888, eq. 2"
    works = "Far OOD, and features whose classes are compact and alike in shape."
    fails = "Near OOD: directions that all classes share dominate the distance; rmd takes them out."
    cost = "O(N·D² + D³) fit, O(D² + C·D) per row"
    cannot_fit_on = ("one row",)
    fit_reads = (LABELS,)
    asks = (Moments, ClassMeans, ClassMoments)
    ridge: Ridge = RIDGE

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the overall mean (D,), the whitener (D, D) and the whitened class means (K, D)."""
        mean = train.compute(Moments(self.key)).mean
        classes = train.compute(ClassMoments(self.key))
        who = f"{self.name}: {self.key}"
        whitener = checked_whitener(who, classes.tied, self.ridge, train)
        return {
            "mean": mean,
            "whitener": whitener,
            "means": (classes.means - mean) @ whitener,
            "rank": torch.tensor(classes.tied.rank),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report rank and condition of the tied covariance, and the classes that occurred."""
        return _covariance_facts(state) | {"classes": len(state["means"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Whiten, then measure to the nearest class mean: (N,) ≥ 0."""
        return self.of_features(state, rows[self.key])

    def of_features(self, state: State, features: Tensor) -> Tensor:
        """Measure features (N, D) of any float dtype: (N,) ≥ 0."""
        centred = features - state["mean"]  # float64, whatever the features are
        return nearest_squared(centred @ state["whitener"], state["means"])


@plugin
class RelativeMahalanobis(Mahalanobis):
    """Mahalanobis distance to the nearest class less that to one Gaussian of all rows.

    ``min_c d_c² − d_0²``; Ren et al. 2021. The background covariance is divided by N, like the
    tied one, so that one class gives 0.
    """

    name = "rmd"
    paper = "arXiv:2106.09022, sec. 2"
    works = "Near OOD and fine-grained classes: what all ID inputs share cancels."
    fails = "Far OOD in directions no class uses: both distances grow alike and cancel too."

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the state of mahalanobis and the whitener (D, D) of the background."""
        state = super().fit(train, val)
        background = train.compute(Moments(self.key)).covariance
        who = f"{self.name}: {self.key}"
        return state | {"background": checked_whitener(who, background, self.ridge, train)}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Subtract the background distance: (N,), below 0 where a class explains a row better."""
        centred = rows[self.key] - state["mean"]
        nearest = nearest_squared(centred @ state["whitener"], state["means"])
        return nearest - (centred @ state["background"]).square().sum(dim=1)


@plugin
class SSD(FeatureDetector):
    """Squared Mahalanobis distance to one Gaussian of all fit rows; needs no labels.

    ``(ĥ−μ)ᵀ Σ⁻¹ (ĥ−μ)`` with Σ divided by N and a ridge; Sehwag et al. 2021, with one cluster as
    they choose. As in their code ĥ is h scaled to length 1. The code also brings every dimension
    to variance 1, which changes no such distance, and has a pseudo-inverse in place of the ridge.
    """

    name = "ssd"
    family = "gaussian"
    paper = "arXiv:2103.12051, sec. 3"
    works = "Self-supervised and contrastive features, and far OOD; no labels."
    fails = "Classes far apart: the one Gaussian spans the gaps between them as well."
    cost = "O(N·D² + D³) fit, O(D²) per row"
    cannot_fit_on = ("one row",)
    normalise: bool = hyper(
        True, "whether features are scaled to length 1 first", tries=(True, False)
    )
    ridge: Ridge = RIDGE

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for mean and scatter."""
        return (UnitMoments(self.key) if self.normalise else Moments(self.key),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,) and the whitener (D, D)."""
        moments = train.compute(*self.statistics())
        who = f"{self.name}: {self.key}"
        return {
            "mean": moments.mean,
            "whitener": checked_whitener(who, moments.covariance, self.ridge, train),
            "rank": torch.tensor(moments.covariance.rank),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report rank and condition of the covariance."""
        return _covariance_facts(state)

    def score(self, state: State, rows: Latents) -> Tensor:
        """Square the whitened length: (N,) ≥ 0."""
        vectors = unit_rows(rows[self.key]) if self.normalise else rows[self.key]
        return ((vectors - state["mean"]) @ state["whitener"]).square().sum(dim=1)


def _covariance_facts(state: State) -> dict[str, Any]:
    """Rank, width and condition of the covariance of a state."""
    condition = condition_of(state["whitener"])
    return {"rank": int(state["rank"]), "width": len(state["mean"]), "condition": condition}
