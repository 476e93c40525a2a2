"""What the principal subspace of the fit rows leaves over, for ViM and its relatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.detectors.statistics.base import FLOAT64, width_of
from latentood.detectors.statistics.moments import Moments
from latentood.errors import DetectorError
from latentood.latents import LOGITS, PENULTIMATE_FEATURES, Accumulator, Latents, Reading
from latentood.stats.linalg import Covariance, lengths, parts


@dataclass(frozen=True, eq=False)
class Residual:
    """What lies outside the principal subspace."""

    origin: Tensor  # (D,) u, from which features are measured
    basis: Tensor  # (D, D−dim) orthonormal directions of least spread
    logit_sum: float  # Σ max z over the fit rows
    norm_sum: float  # Σ ‖basisᵀ(h−u)‖ over the fit rows
    rank: int  # of the scatter of the fit rows about the origin


@dataclass(frozen=True)
class LogitSpread:
    """Spread about the point where all logits are 0: its eigenvectors serve every width."""

    def keys(self) -> tuple[str, ...]:
        """Read nothing: it follows from the moments and the head."""
        return ()

    def nbytes(self, source: Latents) -> int:
        """Estimate the scatter about the point (D, D)."""
        return FLOAT64 * width_of(source, PENULTIMATE_FEATURES) ** 2

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
        return Reading(lambda chunk: None, lambda: (origin, spread))


@dataclass(frozen=True)
class ResidualSums:
    """The second read of vim: how large residuals and logits are, once the subspace is known."""

    dim: int  # 0 = the authors' rule

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (PENULTIMATE_FEATURES, LOGITS)

    def nbytes(self, source: Latents) -> int:
        """Estimate the basis (D, D−dim), rounded up."""
        return FLOAT64 * width_of(source, PENULTIMATE_FEATURES) ** 2

    def start(self, source: Latents) -> Accumulator[Residual]:
        """Find the subspace and begin the read."""
        origin, spread = source.compute(LogitSpread())
        basis = spread.spectrum[1][:, self.dim or paper_dim(len(origin)) :].contiguous()
        sums = torch.zeros(2, dtype=torch.float64, device=basis.device)

        def take(chunk: Latents) -> None:
            sums[0] += chunk.double(LOGITS).amax(dim=1).sum()
            for rows in parts(chunk[PENULTIMATE_FEATURES]):
                sums[1] += lengths((rows - origin) @ basis).sum()

        def finish() -> Residual:
            return Residual(origin, basis, float(sums[0]), float(sums[1]), spread.rank)

        return Reading(take, finish)


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
