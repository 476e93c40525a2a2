"""More densities of latent entropies: what lared and larem do, by other detectors.

All read ``mc.entropy/<layer>``, of all dimensions or of their whitened principal components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Needs, State
from latentood.detectors.gaussian import Mahalanobis, checked_whitener
from latentood.detectors.gaussian_mixture import GMM
from latentood.detectors.latent_entropy import LatentEntropyDetector
from latentood.detectors.neighbours import KNN, ReadyBank, unit_rows
from latentood.detectors.statistics import ClassMoments, Moments
from latentood.latents import LABELS, Latents, Statistic
from latentood.stats.linalg import Covariance
from latentood.stats.neighbours import Neighbours


@dataclass(frozen=True)
class LaRKNN(LatentEntropyDetector, KNN):
    """Distance of the entropies to the k-th nearest of the fit rows.

    ``knn`` on entropies: scaled to length 1 (``normalise``) after the principal components, as
    the authors' library does; theirs is the square of it, in the same order.
    """

    name = "lar_knn"
    works = "As lared, where entropies form clusters; ranks far rows that a kernel gives up on."
    fails = "Small banks; and normalise, where how large entropies are is what tells OOD."
    cost = "O(M·D) fit, O(M·D) per row, for a bank of M rows"

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the bank (M, D) as it is stored, and the principal components."""
        train.gather(self.statistics())
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
        return ReadyBank(search, state["positions"], state["origin"])


@dataclass(frozen=True)
class LaRGMM(LatentEntropyDetector, GMM):
    """Density of the entropies under a mixture of Gaussians, negated.

    ``gmm`` on entropies; whitened principal components are not standardised again. The authors'
    library fits one Gaussian per class instead: ``ddu`` with ``layer=mc.entropy/<layer>``.
    """

    name = "lar_gmm"
    works = "Entropies of ID inputs in several clouds, which one Gaussian of larem blurs."
    fails = "Wide layers without pca: too few rows per component, so the ridge decides."
    cost = "O(I·K·M·D²) fit for I iterations over M rows, O(K·D²) per row"

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the mixture and the principal components."""
        train.gather(self.statistics())
        return super().fit(train, val)

    def scale(self, train: Latents, rows: Tensor) -> State:
        """Give the principal components, or else the shift and spread of the rows."""
        return self.principal_axes(train, correction=1) or GMM.scale(self, train, rows)

    def vectors(self, state: State, rows: Tensor) -> Tensor:
        """Project or standardise entropies (N, D)."""
        return self.reduced(state, rows) if self.pca else GMM.vectors(self, state, rows)


@dataclass(frozen=True)
class ClasswiseLaREM(LatentEntropyDetector, Mahalanobis):
    """Squared Mahalanobis distance of the entropies to the nearest class mean.

    ``min_c (e−μ_c)ᵀ Σ⁻¹ (e−μ_c)`` with class means from the true labels and one Σ within classes,
    divided by n, plus a ridge; with ``pca``, means and Σ are those of the principal components.
    """

    name = "larem_classwise"
    works = "Entropies that differ by class, which larem spans with one wide Gaussian."
    fails = "Classes of few rows, and near OOD that reacts to dropout as a class does."
    cost = "O(N·D² + D³) fit, O(D² + C·D) per row"

    def needs(self) -> Needs:
        """Declare entropies, and labels to fit."""
        return Needs(score=(self.key,), fit=(self.key, LABELS))

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for total scatter and class means."""
        return (Moments(self.key), ClassMoments(self.key))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the overall mean (D,), a whitener (D, D) or (D, pca) and the whitened means."""
        if not self.pca:
            return Mahalanobis.fit(self, train, val)
        train.gather(self.statistics())
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
        """Tell the rank of the tied covariance and the classes that occurred."""
        rank, width = int(state["rank"]), state["whitener"].shape[1]
        return {"rank": rank, "width": width, "classes": len(state["means"])}
