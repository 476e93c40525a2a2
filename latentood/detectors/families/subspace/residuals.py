"""Detectors that measure how far a row lies outside the subspace of the fit rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector, Needs, State
from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.moments import Moments
from latentood.detectors.statistics.residuals import logit_origin, paper_dim
from latentood.errors import DetectorError
from latentood.latents import HEAD, PENULTIMATE, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import Covariance, lengths


@plugin
class SubspaceDetector(FeatureDetector):
    """The norm of what a principal subspace leaves over: ``‖Nᵀ(h−u)‖``."""

    family = "subspace"
    cost = "O(N·D² + D³) fit, O(D·(D−dim)) per row"
    cannot_fit_on = ("one row",)
    asks = (Moments,)

    @abstractmethod
    def width_of(self, spread: Covariance) -> int:
        """Choose the width of the subspace."""

    def residual_state(self, origin: Tensor, train: Latents) -> State:
        """Find the subspace about an origin (D,); give it and the directions (D, D−dim) left over.

        Raises:
            DetectorError: The subspace is as wide as the features, or wider than the rank.
        """
        spread = train.compute(Moments(self.key)).about(origin)
        width, dim = len(origin), self.width_of(spread)
        if dim >= width:
            raise DetectorError(
                f"{self.name}: dim must be < the width {width} of {self.key}, got {dim}; lower it, "
                "or nothing is left over"
            )
        if dim > spread.rank or spread.rank == 0:
            raise DetectorError(
                f"{self.name}: dim must be ≤ the rank {spread.rank} of the {len(train)} fit rows "
                f'of "{train.name}", and that ≥ 1, got {dim}; lower dim or extract more rows'
            )
        basis = spread.spectrum[1][:, dim:].contiguous()
        return {"origin": origin, "basis": basis, "rank": torch.tensor(spread.rank)}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the width of the subspace and the rank of the fit rows."""
        width, left = state["basis"].shape
        return {"dim": width - left, "rank": int(state["rank"]), "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Measure the norm: (N,) ≥ 0."""
        return lengths((rows.double(self.key) - state["origin"]) @ state["basis"])


@plugin
class ResidualNorm(SubspaceDetector):
    """The residual of vim alone: ``‖Nᵀ(h−u)‖``, without its logits.

    N are the eigenvectors of the scatter about u beyond the first ``dim``; Wang et al. 2022. At
    the penultimate layer u = −W⁺b, where all logits are 0; other layers have no head, so their u
    is the mean of the fit rows, which ``origin=mean`` also takes at the penultimate one.
    """

    name = "residual"
    paper = "arXiv:2203.10807, sec. 4.1"
    works = "OOD that activates what ID inputs leave unused; needs no logits, so any layer."
    fails = "Narrow layers, and OOD within the ID subspace, which only logits can tell."
    dim: int = hyper(
        0, "width of the principal subspace; 0 = the rule of vim's authors for the width", low=0
    )
    origin: Literal["auto", "mean"] = hyper("auto", "from where features are measured")

    @property
    def reads_head(self) -> bool:
        """Tell whether u comes from the head."""
        return self.origin == "auto" and self.layer == PENULTIMATE

    def needs(self) -> Needs:
        """Declare features, and at the penultimate layer the head to fit."""
        head = (HEAD,) if self.reads_head else ()
        return Needs(score=(self.key,), fit=(self.key, *head))

    def width_of(self, spread: Covariance) -> int:
        """Take ``dim``, or the rule of the authors."""
        return self.dim or paper_dim(len(spread.matrix))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the origin (D,) and the residual basis (D, D−dim)."""
        if self.reads_head:
            origin = logit_origin(*checked_head(self.name, train))
        else:
            origin = train.compute(Moments(self.key)).mean
        return self.residual_state(origin, train)


@plugin
class PCAReconstruction(SubspaceDetector):
    """How far a row lies from its reconstruction by principal components.

    ``‖(h−μ) − P·Pᵀ(h−μ)‖`` with P the leading eigenvectors of the covariance of the fit rows.
    ``relative`` divides by ‖h‖, the regularised error of Guan et al. (ICCV 2023), who fuse it
    with the energy.
    """

    name = "pca_reconstruction"
    paper = "textbook; relative: openaccess.thecvf.com ICCV 2023 (Guan et al.), sec. 3"
    works = "Far OOD off the subspace of ID features; any layer, no labels."
    fails = "Features whose length varies: an ID row of large activations leaves over more."
    dim: int = hyper(0, "number of components; 0 = as many as keep the variance", low=0)
    variance: float = hyper(
        0.9,
        "share of the variance that components keep, where dim is 0",
        above=0,
        high=1,
        tries=(0.7, 0.8, 0.9, 0.95, 0.99),
    )
    relative: bool = hyper(
        False, "whether the error is divided by the length of the row", tries=(False, True)
    )

    def width_of(self, spread: Covariance) -> int:
        """Take ``dim``, or as few components as keep the variance."""
        if self.dim:
            return self.dim
        kept = spread.spectrum[0].cumsum(dim=0)
        return int((kept < self.variance * kept[-1]).sum()) + 1

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,) and the residual basis (D, D−dim)."""
        return self.residual_state(train.compute(Moments(self.key)).mean, train)

    def score(self, state: State, rows: Latents) -> Tensor:
        """Measure the error: (N,) ≥ 0."""
        error = super().score(state, rows)
        if not self.relative:
            return error
        norm = lengths(rows.double(self.key))
        return error / norm.clamp(min=torch.finfo(torch.float64).tiny)
