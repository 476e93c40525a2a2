"""The objective of networks that are trained against outliers drawn in their feature space."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Chi2

from latentood.errors import ConfigError, ModelError
from latentood.models.heads.energy import WeightedEnergyHead
from latentood.models.heads.queue import FeatureQueue
from latentood.plugins import hyper, plugin
from latentood.stats.moments import ClassSums, MomentSums
from latentood.training.objectives.base import Given, Moment, Objective


@plugin
class VirtualOutliers(Objective):
    """Virtual outlier synthesis (VOS): cross-entropy and an uncertainty loss.

    Du et al. 2022, arXiv:2202.01197, sec. 3: a Gaussian is fitted to the penultimate features of
    each class, with one covariance for all; outliers are drawn from its tails; and the energy of
    both trains a binary classifier φ, by ``mean_v log(1 + exp(−φ(E(v)))) + mean_x log(1 +
    exp(φ(E(x))))`` times β.

    The energy and φ are those of :class:`WeightedEnergyHead`. Outliers have no gradient towards
    the features that they were drawn by, as in the authors' code.

    Departures: the term begins at ``start`` as soon as the queues hold more than D + C rows, so
    that their covariance has full rank, not when all of them are full. The means of the two parts
    are those of the paper; the code takes one mean over both.
    """

    name = "vos"
    paper = "arXiv:2202.01197, sec. 3"
    reads_features: ClassVar[bool] = True
    uncertainty_weight: float = hyper(0.1, "weight β of the uncertainty loss", low=0)
    start: float = hyper(0.4, "share of the run after which it begins", low=0, high=1)
    queue: int = hyper(1000, "newest rows of each class that the Gaussians are fitted to", low=2)
    candidates: int = hyper(10_000, "draws per class, of which the least likely are kept", low=1)
    keep: int = hyper(1, "t, outliers per class and step", low=1)
    ridge: float = hyper(1e-4, "added to the covariance, as a share of its mean variance", above=0)

    def __post_init__(self) -> None:
        if self.keep > self.candidates:
            raise ConfigError(
                f"{self.who}: keep must be ≤ candidates ({self.candidates}), got {self.keep}; "
                f"{self.remedy}"
            )

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> WeightedEnergyHead:
        """Make the weights of the energy, φ and the queues; counts are not read.

        Raises:
            ConfigError: The network's output is not C wide.
        """
        if width != classes:
            raise ConfigError(
                f"{self.who}: the network must give one logit for each of {classes} classes, got "
                f"{width}; look at model.args"
            )
        return WeightedEnergyHead(width, classes, queue=self.queue)

    def coefficients(self, moment: Moment) -> dict[str, float]:
        """Give β, or 0 before the uncertainty loss begins."""
        begun = moment.share >= self.start
        return {"uncertainty_weight": self.uncertainty_weight if begun else 0.0}

    def of(self, given: Given) -> Tensor:
        """Give the mean loss of a batch: float64; in training mode its features join the queues.

        Outliers are drawn from torch's global generator.

        Raises:
            ModelError: The predictions have no features, or are of another head.
            ConfigError: The queues cannot hold more than D + C rows.
        """
        prediction, labels, head = given.prediction, given.labels, given.head
        features, classify = prediction.features, prediction.classify
        if not isinstance(head, WeightedEnergyHead) or features is None or classify is None:
            raise ModelError(
                f"{self.who}: predictions must have features and be those of a head "
                f"{WeightedEnergyHead.name!r}, got those of {head.name!r}; build the network as "
                "latentood.training.network.Network with this objective"
            )
        if head.training:
            head.queue.add(features.detach(), labels)
        loss = F.cross_entropy(prediction.logits.double(), labels)
        ready = self._full_rank(head.queue, features.shape[1])
        if given.moment.share < self.start or not ready:
            return loss
        virtual = self.draw(*head.queue.rows(), classes=head.classes)
        known, unknown = head.energy(prediction.logits), head.energy(classify(virtual))
        return loss + self.uncertainty_weight * uncertainty_loss(head, known, unknown)

    def _full_rank(self, queue: FeatureQueue, width: int) -> bool:
        """Whether the queues hold enough rows for the covariance."""
        least = width + queue.classes
        if queue.classes * queue.size <= least:
            raise ConfigError(
                f"{self.who}: queue must be > {least / queue.classes:g} rows for each of "
                f"{queue.classes} classes of features of width {width}, got {queue.size}; "
                f"{self.remedy}"
            )
        return queue.count > least

    def draw(self, rows: Tensor, labels: Tensor, *, classes: int) -> Tensor:
        """Draw virtual outliers of every class that has rows: (K·keep, D) float64.

        They are the ``keep`` least likely of ``candidates`` draws from N(μ_k, Σ). As all classes
        have the same Σ, the likelihood of a draw μ_k + L·r·u, with LLᵀ = Σ, follows from its
        radius r alone, and r² ~ χ²_D does not depend on the direction u. So only radii are drawn
        in such numbers.

        Args:
            rows: (N, D) features.
            labels: (N,) their classes.
            classes: C.
        """
        means, factor = gaussians(rows, labels, classes, self.ridge)
        shape, width = (len(means), self.candidates), means.shape[1]
        squares = Chi2(means.new_tensor(float(width))).sample(shape)
        radii = squares.topk(self.keep, dim=1).values.sqrt().unsqueeze(2)  # (K, keep, 1)
        drawn = torch.randn(len(means), self.keep, width, dtype=means.dtype, device=means.device)
        offsets = radii * F.normalize(drawn, dim=2) @ factor.mT
        return (means.unsqueeze(1) + offsets).flatten(0, 1)


def gaussians(rows: Tensor, labels: Tensor, classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Fit a Gaussian to each class, with one covariance Σ + ridge·(trace Σ/D)·I.

    Args:
        rows: (N, D) of any float dtype.
        labels: (N,) their classes.
        classes: C.
        ridge: > 0.

    Returns:
        Means of the K classes that have rows (K, D), and the lower Cholesky factor of the
        covariance (D, D): float64. Rows that are not finite give such values.
    """
    sums = ClassSums(classes, rows.shape[1], rows.device)
    sums.add(rows, labels)
    means = sums.means()
    moments = MomentSums()
    moments.add(rows)
    tied = moments.result().tied(sums.counts, means)
    added = torch.full_like(means[0], ridge * tied.scale + 1e-12)  # not 0 where features are dead
    factor = torch.linalg.cholesky_ex(tied.matrix + torch.diag(added)).L
    return means[sums.counts > 0], factor


def uncertainty_loss(head: WeightedEnergyHead, known: Tensor, unknown: Tensor) -> Tensor:
    """Give the loss of energies of ID inputs (B,) and of outliers (M,): a scalar ≥ 0."""
    of_unknown = F.logsigmoid(head.outlier_logit(unknown)).mean()
    return -of_unknown - F.logsigmoid(-head.outlier_logit(known)).mean()
