"""Detectors that split features into a principal subspace and what it leaves over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State, hyper
from latentood.detectors.statistics import Moments, Pass
from latentood.errors import DetectorError
from latentood.latents import (
    HEAD,
    LOGITS,
    PENULTIMATE,
    Accumulator,
    Latents,
    Statistic,
    features,
)
from latentood.stats.linalg import Covariance, lengths, parts

PENULTIMATE_FEATURES = features(PENULTIMATE)


@dataclass(frozen=True, eq=False)
class Residual:
    """What lies outside the principal subspace.

    Attributes:
        origin: (D,) u, from which features are measured.
        basis: (D, D−dim) orthonormal directions of least spread.
        logit_sum: Σ max z over the fit rows.
        norm_sum: Σ ‖basisᵀ(h−u)‖ over the fit rows.
        rank: Of the scatter of the fit rows about the origin.
    """

    origin: Tensor  # (D,)
    basis: Tensor  # (D, D−dim)
    logit_sum: float
    norm_sum: float
    rank: int


@dataclass(frozen=True)
class LogitSpread:
    """Spread about the point where all logits are 0: its eigenvectors serve every width."""

    def keys(self) -> tuple[str, ...]:
        """Read nothing: it follows from the moments and the head."""
        return ()

    def start(self, source: Latents) -> Accumulator[tuple[Tensor, Covariance]]:
        """Move the scatter to that point."""
        weight, bias = source.head
        width = source.shape(PENULTIMATE_FEATURES)[1]
        if weight.shape[1] != width:
            raise DetectorError(
                f"vim: the head must read the {width} features of {PENULTIMATE_FEATURES}, got a "
                f"weight of shape {tuple(weight.shape)}; give the head of this layer"
            )
        moments = source.compute(Moments(PENULTIMATE_FEATURES))
        origin = logit_origin(weight, bias)
        spread = moments.about(origin)
        return Pass(lambda block: None, lambda: (origin, spread))


@dataclass(frozen=True)
class ResidualSums:
    """The second pass of vim: how large residuals and logits are, once the subspace is known."""

    dim: int  # 0 = the authors' rule

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (PENULTIMATE_FEATURES, LOGITS)

    def start(self, source: Latents) -> Accumulator[Residual]:
        """Find the subspace and begin the pass."""
        origin, spread = source.compute(LogitSpread())
        basis = spread.spectrum[1][:, self.dim or paper_dim(len(origin)) :].contiguous()
        sums = torch.zeros(2, dtype=torch.float64, device=basis.device)

        def take(block: Latents) -> None:
            sums[0] += block.double(LOGITS).amax(dim=1).sum()
            for rows in parts(block[PENULTIMATE_FEATURES]):
                sums[1] += lengths((rows - origin) @ basis).sum()

        def finish() -> Residual:
            return Residual(origin, basis, float(sums[0]), float(sums[1]), spread.rank)

        return Pass(take, finish)


@dataclass(frozen=True)
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
    dim: int = hyper(
        0, "width of the principal subspace; 0 = the paper's rule for the width", low=0
    )

    def needs(self) -> Needs:
        """Declare features and logits, and the head to fit."""
        both = (PENULTIMATE_FEATURES, LOGITS)
        return Needs(score=both, fit=(*both, HEAD))

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
        """Tell α and the width of the principal subspace."""
        width, left = state["basis"].shape
        return {"alpha": float(state["alpha"]), "dim": width - left, "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Subtract the log-sum-exp of the logits from the virtual logit: (N,)."""
        residual = (rows[PENULTIMATE_FEATURES] - state["origin"]) @ state["basis"]
        virtual = state["alpha"] * lengths(residual)
        return virtual - torch.logsumexp(rows.double(LOGITS), dim=1)


def paper_dim(width: int) -> int:
    """Width of the principal subspace by the authors' rule: 1000, 512 or half the features."""
    if width >= 2048:
        return 1000
    return 512 if width >= 768 else width // 2


def logit_origin(weight: Tensor, bias: Tensor) -> Tensor:
    """Point u = −W⁺b (D,) of a head where, as far as there is one, all logits are 0."""
    # By least squares, in less than half the time of W⁺; on the CPU, for any rank.
    solved = torch.linalg.lstsq(weight.cpu(), -bias.cpu().unsqueeze(1), driver="gelsd")
    origin: Tensor = solved.solution[:, 0].to(bias.device)
    return origin
