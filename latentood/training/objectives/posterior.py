"""Objectives of networks that count evidence by the density of their latent vectors."""

from __future__ import annotations

from torch import Tensor

from latentood.errors import ConfigError, ModelError
from latentood.models.heads.dirichlet import dirichlet_of
from latentood.models.heads.posterior import Budget, NaturalPosteriorHead, PosteriorHead
from latentood.plugins import hyper, plugin
from latentood.training.objectives.base import Given, Objective


@plugin
class BayesianLoss(Objective):
    """The expected cross-entropy under the predicted Dirichlet, minus a share of its entropy."""

    entropy_weight: float = hyper(1e-5, "weight λ of the entropy of the Dirichlet", low=0)

    def of(self, given: Given) -> Tensor:
        """Give the mean of ``ψ(S) − ψ(α_y) − λ·H(Dir(α))``: float64, nats.

        Raises:
            ModelError: The predictions have no Dirichlet distribution, or one without a density.
        """
        predicted = dirichlet_of(given.prediction, self.who)
        if given.prediction.log_density is None:
            raise ModelError(
                f"{self.who}: predictions must have log_density, got those of a head "
                f"{given.head.name!r}; build the network with the head of this objective"
            )
        expected = predicted.expected_cross_entropy(given.labels)
        return (expected - self.entropy_weight * predicted.entropy()).mean()


@plugin
class Posterior(BayesianLoss):
    """Posterior network: the uncertain cross-entropy with an entropy regulariser.

    Charpentier et al. 2020, arXiv:2006.09239, sec. 3: ``E_{p~Dir(α)}[CE(p, y)] − λ·H(Dir(α))``
    with ``E[CE] = ψ(S) − ψ(α_y)``. The evidence is a density of the latent vector:
    :class:`PosteriorHead`.

    Departure: the mean over the batch, where the authors' code takes the sum.
    """

    name = "posterior"
    paper = "arXiv:2006.09239, sec. 2 and 3"
    flow_length: int = hyper(8, "radial transforms of the density of each class", low=1)
    budget: Budget = hyper("counts", "N_c: training rows of the class, or exp(½·H·log 4π)")
    latent: int = hyper(6, "most dimensions of a latent vector", low=1)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> PosteriorHead:
        """Make the flows, with the counts as budget.

        Raises:
            ConfigError: The budget is ``counts``, and they are unknown or a class has none.
        """
        if self.budget == "counts" and counts is None:
            raise ConfigError(
                f"{self.who}: counts must be known for budget: counts, got none; pass the "
                "training rows of each class, or set budget: normal"
            )
        return PosteriorHead(
            width, classes,
            flow_length=self.flow_length, budget=self.budget, latent=self.latent, counts=counts,
        )  # fmt: skip


@plugin
class NaturalPosterior(BayesianLoss):
    """Natural posterior network (NatPN) for classes: the Bayesian loss, and the flows' likelihood.

    Charpentier et al. 2022, arXiv:2105.04471, sec. 3: ``−E[log p(y|θ)] − λ·H`` under the posterior
    of θ, which for classes is the loss of the posterior network. The posterior is that of
    :class:`NaturalPosteriorHead`. λ is the default of the authors' code.

    Departure: the authors' code trains the flow alone by maximum likelihood, −log p(z), for some
    epochs before and after all else. Here every step does so beside the Bayesian loss, with
    −log p(z|y) of the flow of the row's class; log C more is an upper bound of −log p(z). As there,
    the network has no gradient of that term. Without it the flows do not follow the latent vectors,
    and inputs between the classes can have the highest density.
    """

    name = "natural_posterior"
    paper = "arXiv:2105.04471, sec. 3"
    flow_length: int = hyper(8, "radial transforms of the density of each class", low=1)
    latent: int = hyper(16, "most dimensions of a latent vector", low=1)
    likelihood_weight: float = hyper(1.0, "weight of −log p(z|y), for the flows alone", low=0)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> NaturalPosteriorHead:
        """Make the flow and the linear layer; counts are not read."""
        return NaturalPosteriorHead(
            width, classes, flow_length=self.flow_length, latent=self.latent
        )

    def of(self, given: Given) -> Tensor:
        """Give the mean of ``ψ(S) − ψ(α_y) − λ·H(Dir(α)) − w·log p(z|y)``: float64, nats.

        Raises:
            ModelError: The predictions have no Dirichlet distribution, or are of another head.
        """
        loss, latent, head = super().of(given), given.prediction.features, given.head
        if latent is None or not isinstance(head, NaturalPosteriorHead):
            raise ModelError(
                f"{self.who}: predictions must be those of its own head, got those of a head "
                f"{head.name!r}; build the network with the head of this objective"
            )
        likelihood: Tensor = head.flows(latent.detach()).gather(1, given.labels.unsqueeze(1))
        return loss - self.likelihood_weight * likelihood.mean()
