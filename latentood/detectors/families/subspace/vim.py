"""Detectors that split features into a principal subspace and what it leaves over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.statistics.moments import Moments
from latentood.detectors.statistics.residuals import LogitSpread, ResidualSums, paper_dim
from latentood.errors import DetectorError
from latentood.latents import HEAD, LOGITS, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import lengths


@plugin
class ViM(Detector):
    """Virtual-logit matching: the scaled residual norm less the energy of the logits.

    ``α·‖Nᵀ(h−u)‖ − logsumexp z`` with u = −W⁺b and N the eigenvectors of the scatter about u
    beyond the first ``dim``; α makes the virtual logit as large as the largest real one on
    average over the fit rows. Wang et al. 2022.
    """

    name = "vim"
    family = "subspace"
    paper = "arXiv:2203.10807, sec. 4"
    works = (
        "A strong default with wide features: sees OOD both off the ID subspace and in the logits."
    )
    fails = "Narrow features (few directions left over), and α estimated from a handful of rows."
    cost = "O(N·D² + D³) fit, O(D·(D−dim) + C) per row"
    cannot_fit_on = ("one row",)
    reads = (PENULTIMATE_FEATURES, LOGITS)
    fit_reads = (PENULTIMATE_FEATURES, LOGITS, HEAD)
    dim: int = hyper(
        0, "width of the principal subspace; 0 = the paper's rule for the width", low=0
    )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the total scatter, then for the residuals."""
        return (Moments(PENULTIMATE_FEATURES), LogitSpread(), ResidualSums(self.dim))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the origin (D,), the residual basis (D, D−dim) and α."""
        width = train.shape(PENULTIMATE_FEATURES)[1]
        dim = self.dim or paper_dim(width)
        if dim >= width:
            raise DetectorError(
                f"{self.name}: dim must be < the width {width} of {PENULTIMATE_FEATURES}, got "
                f"{dim}; lower dim, or leave it at 0 for the paper's rule"
            )
        residual = train.compute(ResidualSums(self.dim))
        if residual.rank <= dim:  # α would be the ratio of logits to rounding
            raise DetectorError(
                f"{self.name}: dim must be < the rank {residual.rank} of the {len(train)} fit rows "
                f'of "{train.name}", got {dim}; lower dim or extract more rows'
            )
        alpha = residual.logit_sum / residual.norm_sum
        return {
            "origin": residual.origin,
            "basis": residual.basis,
            "alpha": torch.tensor(alpha, dtype=torch.float64, device=residual.basis.device),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report α and the width of the principal subspace."""
        width, left = state["basis"].shape
        return {"alpha": float(state["alpha"]), "dim": width - left, "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Subtract the log-sum-exp of the logits from the virtual logit: (N,)."""
        residual = (rows[PENULTIMATE_FEATURES] - state["origin"]) @ state["basis"]
        virtual = state["alpha"] * lengths(residual)
        return virtual - torch.logsumexp(rows.double(LOGITS), dim=1)
