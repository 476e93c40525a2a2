"""Detectors that measure distances under Gaussians fitted to features."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector, Needs, State, hyper
from latentood.detectors.neighbours import unit_rows
from latentood.detectors.statistics import ClassMoments, Moments, Pass
from latentood.errors import DetectorError
from latentood.latents import LABELS, Accumulator, Latents, Statistic
from latentood.stats.linalg import Covariance, nearest_squared
from latentood.stats.moments import MomentSums, RowMoments

RIDGE = 1e-6

log = logging.getLogger(__name__)


def ridge_share() -> Any:
    """Declare the ridge all Gaussian detectors share."""
    return hyper(RIDGE, "share of trace(Σ)/D added to the diagonal of the covariance", low=0)


def checked_whitener(who: str, covariance: Covariance, ridge: float, train: Latents) -> Tensor:
    """Whiten with a covariance, after saying what its rank means.

    Args:
        who: ``<detector>: <key>``, to begin messages with.
        covariance: Of the fit rows.
        ridge: Share of trace/D.
        train: The fit rows.

    Returns:
        (D, D), see :meth:`Covariance.whitener`.

    Raises:
        DetectorError: The rows do not vary, or the rank is short and there is no ridge.
    """
    width, rank = len(covariance.matrix), covariance.rank
    if rank == 0:
        raise DetectorError(
            f"{who} must vary between the rows of a fit, got {len(train)} rows of "
            f'"{train.name}" without spread; extract more rows or choose another layer'
        )
    if rank < width:
        if ridge == 0:
            raise DetectorError(
                f"{who} must have a covariance of full rank {width} without a ridge, got rank "
                f'{rank} from {len(train)} rows of "{train.name}"; set ridge=1e-6 or extract '
                "more rows"
            )
        log.warning(
            "%s has a covariance of rank %d in %d dimensions over the %d rows of %r: the ridge "
            "decides in the others",
            who, rank, width, len(train), train.name,
        )  # fmt: skip
    return covariance.whitener(ridge)


def condition_of(whitener: Tensor) -> float:
    """Condition number of the covariance, ridge included, that a whitener (D, D') inverts."""
    inverse = whitener.square().sum(dim=0)  # of its eigenvalues
    return float(inverse.max() / inverse.min())


@dataclass(frozen=True)
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
    ridge: float = ridge_share()

    def needs(self) -> Needs:
        """Declare features, and labels to fit."""
        return Needs(score=(self.key,), fit=(self.key, LABELS))

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for total scatter and class means."""
        return (Moments(self.key), ClassMoments(self.key))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the overall mean (D,), the whitener (D, D) and the whitened class means (K, D)."""
        train.gather(self.statistics())
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
        """Tell rank and condition of the tied covariance, and the classes that occurred."""
        return {
            "rank": int(state["rank"]),
            "width": len(state["mean"]),
            "condition": condition_of(state["whitener"]),
            "classes": len(state["means"]),
        }

    def score(self, state: State, rows: Latents) -> Tensor:
        """Whiten, then measure to the nearest class mean: (N,) ≥ 0."""
        centred = rows[self.key] - state["mean"]  # float64, whatever the rows are
        return nearest_squared(centred @ state["whitener"], state["means"])


@dataclass(frozen=True)
class RelativeMahalanobis(Mahalanobis):
    """Mahalanobis distance to the nearest class less that to one Gaussian of all rows.

    ``min_c d_c² − d_0²``; Ren et al. 2021. The background covariance is divided by N, like the
    tied one, so that one class gives 0.
    """

    name = "rmd"
    paper = "arXiv:2106.09022, sec. 2"
    works = "Near OOD and fine-grained classes: what all ID inputs share cancels."
    fails = "Far OOD in directions no class uses: both distances grow alike and cancel too."
    cost = "O(N·D² + D³) fit, O(D² + C·D) per row"

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


@dataclass(frozen=True)
class UnitMoments:
    """Moments of rows scaled to length 1."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[RowMoments]:
        """Begin a pass over ``source``."""
        sums = MomentSums()
        return Pass(lambda block: sums.add(unit_rows(block[self.key])), sums.result)


@dataclass(frozen=True)
class SSD(FeatureDetector):
    """Squared Mahalanobis distance to one Gaussian of all fit rows; needs no labels.

    ``(h−μ)ᵀ Σ⁻¹ (h−μ)`` with Σ divided by N and a ridge; Sehwag et al. 2021, with one cluster as
    they choose. Their code scales features to length 1 first: ``normalise=True``.
    """

    name = "ssd"
    family = "gaussian"
    paper = "arXiv:2103.12051, sec. 3"
    works = "Self-supervised and contrastive features, and far OOD; no labels."
    fails = "Classes far apart: the one Gaussian spans the gaps between them as well."
    cost = "O(N·D² + D³) fit, O(D²) per row"
    normalise: bool = hyper(False, "whether features are scaled to length 1 first")
    ridge: float = ridge_share()

    def needs(self) -> Needs:
        """Declare features."""
        return Needs(score=(self.key,), fit=(self.key,))

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
        """Tell rank and condition of the covariance."""
        return {
            "rank": int(state["rank"]),
            "width": len(state["mean"]),
            "condition": condition_of(state["whitener"]),
        }

    def score(self, state: State, rows: Latents) -> Tensor:
        """Square the whitened length: (N,) ≥ 0."""
        vectors = unit_rows(rows[self.key]) if self.normalise else rows[self.key]
        return ((vectors - state["mean"]) @ state["whitener"]).square().sum(dim=1)
