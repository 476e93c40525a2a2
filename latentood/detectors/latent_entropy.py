"""LaRED and LaREM: how unusual are the entropies of a layer over T stochastic passes.

Arnez et al., "Latent representation entropy density for distribution shift detection", UAI 2024.
The entropies themselves come with the rows (``mc.entropy/<layer>``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State, hyper
from latentood.detectors.density import KDE
from latentood.detectors.gaussian import checked_whitener, ridge_share
from latentood.detectors.statistics import Moments
from latentood.errors import DetectorError
from latentood.latents import PENULTIMATE, Latents, Statistic, mc_entropy


@dataclass(frozen=True)
class LatentEntropyDetector(Detector):
    """A density of entropy vectors, of all dimensions or of their leading principal components.

    Principal components come from an exact eigendecomposition: there is nothing to seed.
    """

    family = "latent_entropy"
    paper = "proceedings.mlr.press/v244/arnez24a.html, sec. 3"
    per_layer = True
    layer: str = hyper(PENULTIMATE, "stochastic layer whose entropies are read")
    pca: int = hyper(
        0, "whitened principal components to keep; 0 = all dimensions as they are", low=0
    )

    @property
    def key(self) -> str:
        """Name the array of entropies."""
        return mc_entropy(self.layer)

    def needs(self) -> Needs:
        """Declare entropies."""
        return Needs(score=(self.key,), fit=(self.key,))

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for what the density needs, and for moments if there are principal components."""
        return (*super().statistics(), *((Moments(self.key),) if self.pca else ()))

    def principal_axes(self, train: Latents, *, correction: int) -> State:
        """Give the mean (D,) and the axes (D, pca) of the whitened principal components.

        Args:
            train: The n fit rows.
            correction: The components of the fit rows have variance 1 by the divisor
                n − correction.

        Returns:
            ``mean`` and ``axes``; nothing if all dimensions are taken as they are.

        Raises:
            DetectorError: More components than the fit rows have directions.
        """
        if not self.pca:
            return {}
        moments = train.compute(Moments(self.key))
        rank = moments.covariance.rank
        if self.pca > rank:
            raise DetectorError(
                f"{self.name}: pca must be ≤ the rank {rank} of {self.key} over the {len(train)} "
                f'rows of "{train.name}", got {self.pca}; lower pca or extract more rows'
            )
        scale = ((moments.count - correction) / moments.count) ** 0.5
        return {"mean": moments.mean, "axes": moments.covariance.components(self.pca) * scale}

    def reduced(self, state: State, entropies: Tensor) -> Tensor:
        """Project entropies (N, D) on the whitened principal components → (N, pca) float64."""
        return (entropies - state["mean"]) @ state["axes"]

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Turn entropies (N, D) as stored into the principal components, if there are any."""
        return self.reduced(state, rows) if self.pca else rows


@dataclass(frozen=True)
class LaRED(LatentEntropyDetector, KDE):
    """Kernel density of the entropies of the fit rows, negated: −log p(e).

    A Gaussian kernel on every fit row, all pairs summed exactly. A row of the bank does not
    count towards its own density. Principal components are whitened by the divisor n−1, as the
    authors' scikit-learn does.
    """

    name = "lared"
    works = "Shifts that change how a layer reacts to dropout, in any direction; few assumptions."
    fails = "Wide layers without pca: at one bandwidth for all, far rows differ little in rank."
    cost = "O(M·D) fit, O(M·D) per row, for a bank of M rows"
    bandwidth: float = hyper(1.0, "standard deviation of the kernel, nats (or components)", above=0)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and the principal components."""
        train.gather(self.statistics())
        return super().fit(train, val) | self.principal_axes(train, correction=1)


@dataclass(frozen=True)
class LaREM(LatentEntropyDetector):
    """Squared Mahalanobis distance of the entropies to one Gaussian.

    ``(e−μ)ᵀ Σ⁻¹ (e−μ)`` with the empirical covariance (divided by n) and a ridge. With ``pca``
    it is (n/(n−1))·‖y‖² for components y whitened by the divisor n−1: full rank, so no ridge.
    """

    name = "larem"
    works = "As lared, where entropies of ID inputs form one cloud; far quicker, no bank to keep."
    fails = "Entropies with several modes, and more dimensions than the fit rows can fill."
    cost = "O(N·D² + D³) fit, O(D²) per row"
    ridge: float = ridge_share()

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for mean and scatter."""
        return (Moments(self.key),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mean (D,) and the whitening axes (D, D) or (D, pca)."""
        moments = train.compute(Moments(self.key))
        rank = {"rank": torch.tensor(moments.covariance.rank)}
        if self.pca:
            return rank | self.principal_axes(train, correction=0)
        who = f"{self.name}: {self.key}"
        axes = checked_whitener(who, moments.covariance, self.ridge, train)
        return rank | {"mean": moments.mean, "axes": axes}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Tell the rank of the covariance."""
        return {"rank": int(state["rank"]), "width": len(state["mean"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Square the whitened length: (N,) ≥ 0."""
        return self.reduced(state, rows[self.key]).square().sum(dim=1)
