"""Detectors that measure which share of a row's length lies in a subspace."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import Detector, FeatureDetector, State
from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.moments import Lowest, Moments
from latentood.errors import DetectorError
from latentood.latents import HEAD, LOGITS, PENULTIMATE_FEATURES, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import EPSILON, NORM_FLOOR, Covariance, lengths
from latentood.stats.moments import column_scale


@plugin
class NuSA(Detector):
    """Share of the features that the head cannot see: ‖h − P·h‖/‖h‖, P onto the rows of W.

    Cook et al. 2020 score ``√(‖h‖² − ‖N·h‖²)/‖h‖`` with N onto the null space of W, high for ID;
    this is the sine of the same angle, in the reverse order and exact near 0. They also train
    networks to keep ID features out of the null space, and read every dense layer; here it is
    the last one of any network.
    """

    name = "nusa"
    family = "subspace"
    paper = "arXiv:2007.01263, sec. 3"
    works = "Heads much narrower than the features, best of networks trained for it."
    fails = "As many classes as dimensions: the head then sees all. OOD along a class's weight."
    cost = "O(C²·D) fit, O(C·D) per row"
    reads = (PENULTIMATE_FEATURES,)
    fit_reads = (PENULTIMATE_FEATURES, HEAD)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep an orthonormal basis of the rows of W (D, r)."""
        weight, _ = checked_head(self.name, train)
        _, sizes, directions = torch.linalg.svd(weight, full_matrices=False)
        rank = int((sizes > EPSILON * max(weight.shape) * sizes[0]).sum())
        if not 0 < rank < weight.shape[1]:
            raise DetectorError(
                f"{self.name}: the head must have a rank from 1 to {weight.shape[1] - 1}, less "
                f"than its features have dimensions, got {rank}; without a null space use residual"
            )
        return {"seen": directions[:rank].mT.contiguous()}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the rank of the head."""
        width, rank = state["seen"].shape
        return {"head_rank": rank, "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Measure the share: (N,) in [0, 1]."""
        h = rows.double(PENULTIMATE_FEATURES)
        unseen = h - (h @ state["seen"]) @ state["seen"].mT
        return lengths(unseen) / (lengths(h) + NORM_FLOOR)


@plugin
class NECO(FeatureDetector):
    """Share of the features within the ID subspace, times the largest logit, negated.

    ``−‖Pᵀĥ‖/‖ĥ‖ · max z`` with ĥ the features, standardised, and P their first ``dim`` principal
    axes over the fit rows; Ammar et al. 2024. The authors' code leaves the largest logit out for
    ResNets and keeps it for ViT, DeiT and Swin: ``max_logit=auto`` leaves it out where no fit row
    has a feature below 0, as after a ReLU, and the diagnostics say which. For DeiT and Swin the
    code divides by the length of h, not of ĥ; here it is that of ĥ always. They choose dim per
    network; the simplex of their theory has C−1 dimensions.
    """

    name = "neco"
    family = "subspace"
    paper = "arXiv:2310.06823, eq. 6"
    works = "Networks trained long past zero error, so that features collapse to class means."
    fails = "Networks stopped early; with max z, logits all below 0 turn the order round."
    cost = "O(N·D² + D³) fit, O(D·dim) per row"
    cannot_fit_on = ("one row",)
    reads = (LOGITS,)
    fit_reads = (LOGITS,)
    asks = (Moments, Lowest)
    dim: int = hyper(0, "principal axes of the ID subspace; 0 = one less than classes", low=0)
    standardise: bool = hyper(
        True, "whether every dimension is first brought to variance 1", tries=(True, False)
    )
    max_logit: Literal["auto", True, False] = hyper(
        "auto", "whether the share is multiplied by the largest logit; auto: unless rectified"
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep mean and spread (D,), the principal axes (D, dim), and if features are rectified."""
        moments = train.compute(Moments(self.key))
        matrix = moments.covariance.matrix
        scale = torch.ones_like(moments.mean)
        if self.standardise:
            scale = column_scale(moments.mean, matrix.diagonal())
        scaled = matrix / scale / scale.unsqueeze(1)
        noise = EPSILON * len(scale) * float(torch.linalg.matrix_norm(scaled))
        spread = Covariance(scaled, noise)
        dim = self.dim or max(1, train.shape(LOGITS)[1] - 1)
        limit = min(spread.rank, len(scale) - 1)
        if dim > limit:
            raise DetectorError(
                f"{self.name}: dim must be ≤ {limit}, the rank of the {len(train)} fit rows of "
                f'"{train.name}" and less than the width {len(scale)} of {self.key}, got {dim}; '
                "lower dim or extract more rows"
            )
        axes = spread.spectrum[1][:, :dim].contiguous()
        return {
            "mean": moments.mean,
            "scale": scale,
            "axes": axes,
            "rank": torch.tensor(spread.rank),
            "rectified": train.compute(Lowest(self.key)) >= 0,
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the width of the ID subspace, the rank of the fit rows and if max z counts."""
        width, dim = state["axes"].shape
        facts = {"dim": dim, "rank": int(state["rank"]), "width": width}
        return facts | {"max_logit": self._multiplies(state)}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Give the share, by the largest logit if that counts: (N,)."""
        scaled = (rows.double(self.key) - state["mean"]) / state["scale"]
        share = lengths(scaled @ state["axes"]) / (lengths(scaled) + NORM_FLOOR)
        return -share * rows.double(LOGITS).amax(dim=1) if self._multiplies(state) else -share

    def _multiplies(self, state: State) -> bool:
        """Tell whether the largest logit counts."""
        return not bool(state["rectified"]) if self.max_logit == "auto" else self.max_logit
