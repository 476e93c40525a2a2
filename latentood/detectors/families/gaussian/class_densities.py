"""One Gaussian per class, each with a covariance of its own, as a mixture."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector, State
from latentood.detectors.statistics.classes import Centres, ClassMeans, ClassScatters
from latentood.errors import DetectorError
from latentood.latents import LABELS, Latents
from latentood.latents.memo import memory_of
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.mixture import (
    mixture_log_density,
    precision_factors,
    spread_rank,
)
from latentood.stats.linalg import FLAT

JITTER = 1e-6
_LARGEST = 1e140

log = logging.getLogger(__name__)


@plugin
class MixtureDetector(FeatureDetector):
    """The log density of a mixture of Gaussians, negated; the state holds the mixture."""

    family = "gaussian"

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Turn rows (N, D) as stored into those the mixture models (N, D') float64."""
        return rows.double()

    def score(self, state: State, rows: Latents) -> Tensor:
        """Negate the log density: (N,) nats."""
        vectors = self.vectors(state, rows[self.key])
        parts = (state[name] for name in ("log_weights", "means", "factors"))
        return -mixture_log_density(vectors, *parts)


@plugin
class DDU(MixtureDetector):
    """Density of the features under one Gaussian per class, each with its own covariance.

    ``−log Σ_c π_c·N(h; μ_c, Σ_c)`` with π_c the share of class c; Mukhoti et al. 2023. Their code
    leaves π_c out (``priors=False``) and adds the smallest jitter from 1e-308 up that lets a
    Cholesky factorisation pass, which leaves rounding to decide in directions without spread.
    Here the jitter is a share of the mean variance within classes, 0 where every class has full
    rank beyond rounding, else ``jitter``, tenfold until all pass; it is the same for all classes,
    so that their densities stay comparable. The spectral normalisation of the paper is a matter
    of training.
    """

    name = "ddu"
    paper = "arXiv:2102.11582, sec. 4"
    works = "Networks trained with spectral normalisation; classes of different size and shape."
    fails = "Classes with fewer rows than features have dimensions: the jitter then decides."
    cost = "O(N·D² + C·D³) fit, O(C·D²) per row, C·D² numbers kept"
    cannot_fit_on = ("one row",)
    fit_reads = (LABELS,)
    asks = (ClassMeans,)
    priors: bool = hyper(
        True,
        "whether classes are weighted by their share; the paper's code: no",
        tries=(True, False),
    )
    unbiased: bool = hyper(True, "whether a scatter is divided by n−1, as in the paper, or by n")
    jitter: float = hyper(
        JITTER,
        "first share of the mean variance within classes added where a covariance is singular",
        above=0,
        high=1,
    )

    def memory(self, train: Latents) -> int:
        """Add the scatters of all classes, their covariances, and the factors of these."""
        return super().memory(train) + 3 * memory_of(ClassScatters(self.key), train)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep log π (C,), means (C, D) and factors of the precisions (C, D, D)."""
        centres = train.compute(ClassMeans(self.key))
        divisor = (centres.counts - int(self.unbiased)).clamp(min=1).view(-1, 1, 1)
        covariances = train.compute(ClassScatters(self.key)) / divisor
        factors, jitter, rank = self._factors(covariances, centres, train)
        shares = centres.counts / len(train)
        return {
            "log_weights": shares.log() if self.priors else torch.zeros_like(shares),
            "means": centres.means,
            "factors": factors,
            "jitter": torch.tensor(jitter, dtype=torch.float64),
            "rank": torch.tensor(rank),
            "fewest_rows": centres.counts.min().long(),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the smallest class and rank of one, and the jitter by the mean variance."""
        classes, width = state["means"].shape
        return {
            "class_rank": int(state["rank"]),
            "width": width,
            "classes": classes,
            "fewest_rows": int(state["fewest_rows"]),
            "jitter": float(state["jitter"]),
        }

    def _scale(self, covariances: Tensor, centres: Centres, train: Latents) -> float:
        """Give the mean variance within classes, after checking that it can be divided by."""
        variances = covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
        scale = float(variances @ centres.counts / len(train))
        if not scale < _LARGEST:
            raise DetectorError(
                f"{self.name}: {self.key} must have variances below {_LARGEST:g}, whose squares "
                f"float64 can hold, got {scale:g}; scale the features down"
            )
        if scale <= FLAT * float(centres.means.square().mean()):
            raise DetectorError(
                f"{self.name}: {self.key} must vary between the rows of a class, got {len(train)} "
                f'rows of "{train.name}" without spread in their classes; extract more rows or '
                "choose another layer"
            )
        return scale

    def _factors(
        self, covariances: Tensor, centres: Centres, train: Latents
    ) -> tuple[Tensor, float, int]:
        """Factor all precisions with the least jitter that will do; give it, and the rank."""
        scale = self._scale(covariances, centres, train)
        width, fewest = covariances.shape[1], int(centres.counts.min())
        if (factors := precision_factors(covariances, 0.0)) is not None:
            return factors, 0.0, width
        rank = min(spread_rank(covariance) for covariance in covariances)
        jitter = self.jitter
        while (factors := precision_factors(covariances, jitter * scale)) is None:
            jitter *= 10
        log.warning(
            "%s: a class of %s has a covariance of rank %d in %d dimensions over the %d rows of "
            "%r (the smallest class has %d): a jitter of %g of the mean variance decides in the "
            "others",
            self.name, self.key, rank, width, len(train), train.name, fewest, jitter,
        )  # fmt: skip
        return factors, jitter, rank
