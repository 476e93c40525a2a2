"""Mahalanobis distance of features whose lengths were drawn together or apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Seed, State
from latentood.detectors.checks import checked_whitener
from latentood.detectors.families.gaussian.distances import Mahalanobis
from latentood.detectors.statistics.radial import RadialMoments, RadialPower, check_powers, powers
from latentood.latents import Latents, Statistic
from latentood.plugins import plugin
from latentood.stats.linalg import radially_scaled


@plugin
class RadialMahalanobis(Mahalanobis):
    """The distance of mahalanobis, of features divided by a power of their length: h/‖h‖^β.

    Janiak, Binkowski and Kajdanowicz 2025, who choose β from the geometry of ID features, by the
    spectrum within classes and their local dimension. How could not be read, so this choice is
    ours: the β of the largest likelihood under a Gaussian for each class and one covariance, of at
    most 4,096 fit rows, as densities of h. It knows the spectrum within classes, but no local
    dimension, and cannot choose β = 1, whose rows lie on a sphere; ``betas=[1]`` is Mahalanobis++
    (arXiv:2505.18032). β = 0 is mahalanobis.
    """

    name = "mahalanobis_radial"
    paper = "arXiv:2510.15202, abstract"
    works = "Features whose length varies for reasons other than class, as of large transformers."
    fails = "Features that tell OOD by their length: what β takes away is what told it."
    betas: tuple[float, ...] = powers()
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check that there is a power."""
        check_powers(self.name, self.betas)

    @property
    def power(self) -> RadialPower:
        """Name the choice of β."""
        return RadialPower(self.key, self.betas, self.seed)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the sample, the power it gives, and the moments of scaled rows."""
        return (self.power.sample, self.power, RadialMoments(self.key, self.power))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the state of mahalanobis, and β."""
        mean, classes = train.compute(RadialMoments(self.key, self.power))
        whitener = checked_whitener(f"{self.name}: {self.key}", classes.tied, self.ridge, train)
        return {
            "mean": mean,
            "whitener": whitener,
            "means": (classes.means - mean) @ whitener,
            "rank": torch.tensor(classes.tied.rank),
            "beta": train.compute(self.power),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report what mahalanobis reports, and β."""
        return super().diagnostics(state) | {"beta": float(state["beta"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Scale, whiten, then measure to the nearest class mean: (N,) ≥ 0."""
        return self.of_features(state, radially_scaled(rows[self.key], float(state["beta"])))
