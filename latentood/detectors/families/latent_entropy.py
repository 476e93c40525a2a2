"""LaRED and LaREM: how unusual are the entropies of a layer over T stochastic passes.

Arnez et al., "Latent representation entropy density for distribution shift detection", UAI 2024.
The entropies themselves come with the rows (``mc.entropy/<layer>``).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import RIDGE, FeatureDetector, Ridge, State
from latentood.detectors.checks import checked_whitener
from latentood.detectors.families.density.kernel import KDE
from latentood.detectors.families.gaussian.distances import Mahalanobis
from latentood.detectors.families.gaussian.mixture import GMM
from latentood.detectors.families.neighbours.knn import KNN, ReadyBank
from latentood.detectors.statistics import ClassMoments, Moments
from latentood.errors import DetectorError
from latentood.latents import PENULTIMATE, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import Covariance, unit_rows
from latentood.stats.neighbours.search import Neighbours


@plugin
class LatentEntropyDetector(FeatureDetector):
    """A density of entropy vectors, of all dimensions or of their leading principal components.

    Principal components come from an exact eigendecomposition: there is nothing to seed.
    """

    family = "latent_entropy"
    paper = "proceedings.mlr.press/v244/arnez24a.html, sec. 3"
    layer: str = hyper(PENULTIMATE, "stochastic layer whose entropies are read")
    source: Literal["mc.entropy"] = hyper("mc.entropy", "entropies, always")
    pca: int = hyper(
        0,
        "whitened principal components to keep; 0 = all dimensions as they are",
        low=0,
        tries=(0, 8, 16, 32),
    )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for what the density needs, and for moments if there are principal components."""
        return (*super().statistics(), *((Moments(self.key),) if self.pca else ()))

    def principal_axes(self, train: Latents, *, correction: int) -> State:
        """Give ``mean`` (D,) and ``axes`` (D, pca) of the whitened principal components, if any.

        The components of the n fit rows have variance 1 by the divisor n − correction.

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


@plugin
class LaRED(LatentEntropyDetector, KDE):
    """Kernel density of the entropies of the fit rows, negated: −log p(e).

    A Gaussian kernel on every fit row, all pairs summed exactly. A row of the bank does not
    count towards its own density. Principal components are whitened by the divisor n−1, as the
    authors' scikit-learn does.
    """

    name = "lared"
    works = "Shifts that change how a layer reacts to dropout, in any direction; few assumptions."
    fails = "Wide layers without pca: at one bandwidth for all, far rows differ little in rank."
    bandwidth: float = hyper(
        1.0,
        "standard deviation of the kernel, nats (or components)",
        above=0,
        tries=(0.5, 1.0, 2.0, 4.0),
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and the principal components."""
        return super().fit(train, val) | self.principal_axes(train, correction=1)


@plugin
class LaREM(LatentEntropyDetector):
    """Squared Mahalanobis distance of the entropies to one Gaussian.

    ``(e−μ)ᵀ Σ⁻¹ (e−μ)`` with the empirical covariance (divided by n) and a ridge. With ``pca``
    it is (n/(n−1))·‖y‖² for components y whitened by the divisor n−1: full rank, so no ridge.
    """

    name = "larem"
    works = "As lared, where entropies of ID inputs form one cloud; far quicker, no bank to keep."
    fails = "Entropies with several modes, and more dimensions than the fit rows can fill."
    cost = "O(N·D² + D³) fit, O(D²) per row"
    cannot_fit_on = ("one row",)
    asks = (Moments,)
    ridge: Ridge = RIDGE

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
        """Report the rank of the covariance, of the principal components if there are any."""
        width = state["axes"].shape[1]
        return {"rank": min(int(state["rank"]), width), "width": width}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Square the whitened length: (N,) ≥ 0."""
        return self.reduced(state, rows[self.key]).square().sum(dim=1)


@plugin
class LaRKNN(LatentEntropyDetector, KNN):
    """Distance of the entropies to the k-th nearest of the fit rows.

    ``knn`` on entropies: scaled to length 1 (``normalise``) after the principal components, as
    the authors' library does; theirs is the square of it, in the same order.
    """

    name = "lar_knn"
    works = "As lared, where entropies form clusters; ranks far rows that a kernel gives up on."
    fails = "Small banks; and normalise, where how large entropies are is what tells OOD."

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and the principal components."""
        return super().fit(train, val) | self.principal_axes(train, correction=1)

    def prepare(self, state: State) -> ReadyBank:
        """Project the bank and build the index."""

        def compared(rows: Tensor) -> Tensor:
            vectors = self.vectors(state, rows)
            return unit_rows(vectors) if self.normalise else vectors.double()

        search = Neighbours(
            state["bank"],
            vectors=compared,
            engine=self.engine,
            index=self.index,
            effort=self.effort,
        )
        return ReadyBank(search, state)


@plugin
class LaRGMM(LatentEntropyDetector, GMM):
    """Density of the entropies under a mixture of Gaussians, negated.

    ``gmm`` on entropies; whitened principal components are not standardised again. The authors'
    library fits one Gaussian per class instead: ``ddu`` with ``layer=mc.entropy/<layer>``.
    """

    name = "lar_gmm"
    works = "Entropies of ID inputs in several clouds, which one Gaussian of larem blurs."
    fails = "Wide layers with few rows, of which auto models variances alone: set pca then."

    def memory(self, train: Latents) -> int:
        """Count the mixture where it is not one of few principal components."""
        of_mixture = LatentEntropyDetector if self.pca else GMM
        return of_mixture.memory(self, train)

    def scale(self, train: Latents, rows: Tensor) -> State:
        """Give the principal components, or else the shift and spread of the rows."""
        return self.principal_axes(train, correction=1) or GMM.scale(self, train, rows)

    def axes(self, vectors: Tensor) -> State:
        """Give the principal axes; principal components lie along them already."""
        return {} if self.pca else GMM.axes(self, vectors)

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Project or standardise entropies (N, D)."""
        return self.reduced(state, rows) if self.pca else GMM.vectors(self, state, rows)


@plugin
class ClasswiseLaREM(LatentEntropyDetector, Mahalanobis):
    """Squared Mahalanobis distance of the entropies to the nearest class mean.

    ``min_c (e−μ_c)ᵀ Σ⁻¹ (e−μ_c)`` with class means from the true labels and one Σ within classes,
    divided by n, plus a ridge; with ``pca``, means and Σ are those of the principal components.
    """

    name = "larem_classwise"
    works = "Entropies that differ by class, which larem spans with one wide Gaussian."
    fails = "Classes of few rows, and near OOD that reacts to dropout as a class does."

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the overall mean (D,), a whitener (D, D) or (D, pca) and the whitened means."""
        if not self.pca:
            return Mahalanobis.fit(self, train, val)
        classes = train.compute(ClassMoments(self.key))
        mean, axes = self.principal_axes(train, correction=0).values()
        # Whitening magnifies rounding as it does spread.
        noise = classes.tied.noise * float(axes.square().sum(dim=0).amax())
        tied = Covariance(axes.mT @ classes.tied.matrix @ axes, noise)
        who = f"{self.name}: {self.key}"
        whitener = axes @ checked_whitener(who, tied, self.ridge, train)
        return {
            "mean": mean,
            "whitener": whitener,
            "means": (classes.means - mean) @ whitener,
            "rank": torch.tensor(tied.rank),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the rank of the tied covariance and the classes that occurred."""
        rank, width = int(state["rank"]), state["whitener"].shape[1]
        return {"rank": rank, "width": width, "classes": len(state["means"])}


DETECTORS = (LaRED, LaREM, ClasswiseLaREM, LaRKNN, LaRGMM)
