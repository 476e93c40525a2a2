"""The power of the length that rows are divided by, and moments of rows that were so scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.statistics.bank import Sample
from latentood.detectors.statistics.base import FLOAT64, OfClasses, class_count, width_of
from latentood.detectors.statistics.classes import Classes
from latentood.errors import DetectorError
from latentood.latents import LABELS, Accumulator, Latents, Reading
from latentood.plugins import hyper
from latentood.stats.linalg import NORM_FLOOR, lengths, radially_scaled
from latentood.stats.moments import ClassSums, MomentSums
from latentood.stats.products import self_product

SAMPLE = 4096
"""Fit rows that the power is chosen on."""

BETAS = (-0.5, 0.0, 0.25, 0.5, 0.75)

_RIDGE = 1e-6  # share of the mean variance, so that a covariance of any rank has a determinant


def powers() -> Any:
    """Declare the powers to choose from."""
    return hyper(BETAS, "β to choose from by ID rows alone; one is taken as it is: 1 for length 1")


def check_powers(who: str, betas: tuple[float, ...]) -> None:
    """Refuse an empty choice.

    Raises:
        DetectorError: There is no power.
    """
    if not betas:
        raise DetectorError(
            f"{who}: betas must name a power or several, got none; 0 leaves features as they are"
        )


@dataclass(frozen=True)
class RadialPower(OfClasses):
    """Which power β makes h/‖h‖^β most nearly Gaussian within classes: () float64.

    The largest likelihood of a sample of the rows, under one covariance for all classes, as
    densities of h: with the Jacobian ``|1−β|·‖h‖^(−β·D)``, without which shrinking always pays.

    Attributes:
        key: The array.
        betas: Powers to choose from; a single one is taken as it is.
        seed: Which rows are drawn.
    """

    betas: tuple[float, ...]
    seed: int

    @property
    def sample(self) -> Sample:
        """Name the rows it is chosen on."""
        return Sample(self.key, SAMPLE, self.seed)

    def keys(self) -> tuple[str, ...]:
        """Read nothing: it follows from the sample."""
        return ()

    def nbytes(self, source: Latents) -> int:
        """Estimate the sample, scaled and centred, and its smaller product."""
        if len(self.betas) == 1:
            return 0
        rows, width = min(SAMPLE, len(source)), width_of(source, self.key)
        return FLOAT64 * (3 * rows * width + 3 * min(rows, width) ** 2)

    def start(self, source: Latents) -> Accumulator[Tensor]:
        """Compare the powers."""
        best = self.betas[0]
        if len(self.betas) > 1:
            sample = source.compute(self.sample)
            labels = source[LABELS][(sample.positions - source.offset).to(source.device)]
            place = labels.unique(return_inverse=True)[1]
            best = max(self.betas, key=lambda beta: _log_likelihood(sample.rows, place, beta))
        answer = torch.tensor(best, dtype=torch.float64)
        return Reading(lambda chunk: None, lambda: answer)


@dataclass(frozen=True)
class RadialMoments(OfClasses):
    """Mean (D,), class means and tied covariance of the rows, scaled by the power of their length.

    The result is a pair: the mean, and the classes.
    """

    power: RadialPower

    def nbytes(self, source: Latents) -> int:
        """Estimate the matrices (D, D) that exist at once, and the class means."""
        width = width_of(source, self.key)
        return FLOAT64 * width * (6 * width + 2 * class_count(source))

    def start(self, source: Latents) -> Accumulator[tuple[Tensor, Classes]]:
        """Look the power up and begin the read."""
        beta = float(source.compute(self.power))
        present = source[LABELS].long().unique()
        every = MomentSums()
        own = ClassSums(len(present), width_of(source, self.key), present.device)

        def take(chunk: Latents) -> None:
            rows = radially_scaled(chunk[self.key], beta)
            every.add(rows)
            own.add(rows, torch.searchsorted(present, chunk[LABELS].long()))

        def finish() -> tuple[Tensor, Classes]:
            moments, means = every.result(), own.means()
            return moments.mean, Classes(means, moments.tied(own.counts, means))

        return Reading(take, finish)


def _log_likelihood(rows: Tensor, place: Tensor, beta: float) -> float:
    """Mean log density of rows (n, D) of classes (n,) in [0, K), up to what no β changes."""
    if beta == 1:
        return -math.inf  # all rows on a sphere: no density
    scaled = radially_scaled(rows, beta)
    count, width = scaled.shape
    sums = ClassSums(int(place.max()) + 1, width, scaled.device)
    sums.add(scaled, place)
    centred = scaled - sums.means()[place]
    # The larger product has the same eigenvalues beside zeros, which are the ridge alone.
    product = self_product(centred if count >= width else centred.mT.contiguous()) / count
    ridge = _RIDGE * max(float(product.diagonal().sum()) / width, torch.finfo(torch.float64).tiny)
    factor = torch.linalg.cholesky(product.diagonal_scatter(product.diagonal() + ridge))
    zeros = (width - len(product)) * math.log(ridge)
    determinant = 2 * float(factor.diagonal().log().sum()) + zeros
    radius = float(lengths(rows.double()).clamp(min=NORM_FLOOR).log().mean())
    return math.log(abs(1 - beta)) - beta * width * radius - 0.5 * determinant
