"""Heads that count evidence by the density of the latent vectors."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentood.errors import ConfigError, ModelError
from latentood.models.heads.base import Prediction, UncertaintyHead
from latentood.models.heads.checks import check_positive
from latentood.stats.distributions.radial import radial_log_density

Budget = Literal["counts", "normal"]

_NATS = 0.5 * math.log(2 * math.pi * math.e)  # mean −log density of N(0, 1), of each dimension
_LEAST = math.log(1e-6)  # of the evidence of a row at first; with less, SGD does not train


class DensityHead(UncertaintyHead):
    """Concentrations α_c = 1 + N_c·p_c(z) of a Dirichlet distribution, for densities p_c of z.

    z is the network's output, batch-normalised (with scale and shift, as in the code of the
    posterior network's authors; a batch of one row is normalised as in eval mode). A density
    of many dimensions is so small that α stays at 1 and no gradient is left, so an output wider
    than ``latent`` goes through a linear layer of that width first, which stands for the last
    layer of the paper's encoder.

    Args:
        width: H, the width of the network's output.
        classes: C.
        flows: F, how many densities are learnt.
        flow_length: L, radial transforms of each density.
        latent: Most dimensions of z.
        settings: Further keyword arguments of the class.

    Raises:
        ConfigError: A setting is below 1.
    """

    log_budget: Tensor  # (C,) or () float64, log N_c
    reach: ClassVar[float] = 1.0
    """What the parameters of the flows are divided by; see :class:`RadialFlows`."""

    def __init__(
        self,
        width: int,
        classes: int,
        flows: int,
        *,
        flow_length: int,
        latent: int,
        **settings: Any,
    ) -> None:
        check_positive(self.name, flow_length=flow_length, latent=latent)
        super().__init__(width, classes, flow_length=flow_length, latent=latent, **settings)
        self.latent_width = min(width, latent)
        self.reduce = nn.Linear(width, latent) if width > latent else nn.Identity()
        self.norm = nn.BatchNorm1d(self.latent_width)
        self.flows = RadialFlows(self.latent_width, flows, flow_length, self.reach)

    @property
    def log_normal_budget(self) -> float:
        """Log of N_H = exp(½·H·log 4π), for H dimensions of z (NatPN, arXiv:2105.04471)."""
        return 0.5 * self.latent_width * math.log(4 * math.pi)

    def forward(self, output: Tensor) -> Prediction:
        """Give log α (B, C) float64, as logits too: their softmax is the mean α/S; and log p_c."""
        latent = self._latent(output)
        log_density = self.log_densities(latent)
        evidence = self.log_budget.double() + log_density
        log_alpha = torch.logaddexp(torch.zeros_like(evidence), evidence)
        return Prediction(log_alpha, log_alpha=log_alpha, log_density=log_density, features=latent)

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give −log Σ N_c·p_c(z), (B,) float64, any sign.

        That is −log(S − C): it ranks as the vacuity C/S, and still differs where S is C to the
        last bit.

        Raises:
            ModelError: The prediction has no density.
        """
        if prediction.log_density is None:
            raise ModelError(
                f"{self.name}: predictions must have log_density, got some without; pass "
                "what this head gave"
            )
        return -torch.logsumexp(self.log_budget.double() + prediction.log_density, dim=1)

    @abstractmethod
    def log_densities(self, latent: Tensor) -> Tensor:
        """Give log p_c(z) of latent vectors (B, H): (B, C) float64."""

    def _latent(self, output: Tensor) -> Tensor:
        """Give z: (B, H) → (B, min(H, latent)) of the network's dtype."""
        z: Tensor = self.reduce(output)
        norm = self.norm
        if norm.training and len(z) == 1:  # one row has no variance
            return F.batch_norm(
                z, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        normalised: Tensor = norm(z)
        return normalised


class RadialFlows(nn.Module):
    """Densities of F radial flows; see :func:`radial_log_density`.

    All start as draws from U(−1/√H, 1/√H), as in the code of the posterior network's authors.

    Args:
        width: H.
        flows: F.
        length: L, transforms of each flow.
        reach: What the parameters are kept divided by. Adam, whose steps have about the length of
            the learning rate, moves them as many times as far (the equalised learning rate of
            Karras et al. 2018, arXiv:1710.10196); SGD so many times squared.
    """

    def __init__(self, width: int, flows: int, length: int, reach: float = 1.0) -> None:
        super().__init__()
        self.reach = reach
        bound = width**-0.5 / reach
        self.centres = nn.Parameter(torch.empty(length, flows, width).uniform_(-bound, bound))
        self.alpha = nn.Parameter(torch.empty(length, flows).uniform_(-bound, bound))
        self.gamma = nn.Parameter(torch.empty(length, flows).uniform_(-bound, bound))

    def forward(self, rows: Tensor) -> Tensor:
        """Give the log density of rows (B, H) under each flow: (B, F) float64, nats."""
        positive = (F.softplus(self.reach * raw.double()) for raw in (self.alpha, self.gamma))
        return radial_log_density(rows.double(), self.reach * self.centres.double(), *positive)


class PosteriorHead(DensityHead):
    """Posterior network: one density of z for each class, times the training rows of the class.

    Charpentier et al. 2020, arXiv:2006.09239, sec. 2: ``α_c = 1 + N_c·p(z|c)``, with N_c the
    training rows of c and p(z|c) a radial flow of c, kept as
    ``log α = logaddexp(0, log N_c + log p(z|c))``.

    Args:
        width: H, the width of the network's output.
        classes: C.
        flow_length: L, radial transforms of each class; 8 in the authors' code.
        budget: ``counts``: N_c as in the paper; ``normal``: exp(½·H·log 4π) for every class, the
            budget of NatPN, with which densities matter less by their number of dimensions.
        latent: Most dimensions of z; see :class:`DensityHead`. 10 in the authors' code, too many
            for classes of a few hundred rows.
        counts: (C,) training rows of each class. They are saved with the weights: a head that is
            built to load weights needs none, and gives NaN until it has.

    Raises:
        ConfigError: A setting is out of range, counts are not C numbers or have a class without
            rows, or z has too many dimensions for the budget.
    """

    name = "posterior"
    gives = ("log_alpha", "log_density")

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        flow_length: int = 8,
        budget: Budget = "counts",
        latent: int = 6,
        counts: Tensor | None = None,
    ) -> None:
        super().__init__(
            width, classes, classes, flow_length=flow_length, latent=latent, budget=budget
        )
        if budget not in ("counts", "normal"):
            raise ConfigError(
                f"posterior: budget must be one of ['counts', 'normal'], got {budget!r}; look at "
                "objective: in training:"
            )
        log_budget = torch.full((classes,), torch.nan, dtype=torch.float64)
        if budget == "normal":
            log_budget.fill_(self.log_normal_budget)
        elif counts is not None:
            log_budget.copy_(_checked(counts, classes).log())
        _check_evidence(float(log_budget.max()), self.latent_width)
        self.register_buffer("log_budget", log_budget)

    def log_densities(self, latent: Tensor) -> Tensor:
        """Give log p(z|c)."""
        densities: Tensor = self.flows(latent)
        return densities


class NaturalPosteriorHead(DensityHead):
    """Natural posterior network for classes: one density of z, shared out by class probabilities.

    Charpentier et al. 2022, arXiv:2105.04471, sec. 3: a linear layer gives the parameters of the
    categorical distribution, χ = softmax(W·z + b), one density gives the evidence n = N_H·p(z),
    and the update of the prior χ₀ = 1/C, n₀ = C to ``(n₀·χ₀ + n·χ)/(n₀ + n)``, ``n₀ + n`` is
    α_c = 1 + n·χ_c. N_H = exp(½·H·log 4π).

    ``log_density`` is log p(z) + log χ_c, whose logsumexp is log p(z).

    Departures: p is the mean of C radial flows, in the paper one normalising flow. A radial
    transform makes one peak or one hollow, so that the 8 transforms of the authors' code have no
    form for many classes and what lies between them, where OOD inputs are. The parameters of
    the flows are kept divided by 3 (``reach`` of :class:`RadialFlows`), since centres have a way of
    whole units to their classes, where weights of a network change by hundredths. z is
    batch-normalised, as in the posterior network. And log n is not cut off at ±30, as it is in the
    authors' code, since α is kept in logarithms.

    Args:
        width: H, the width of the network's output.
        classes: C.
        flow_length: L, radial transforms of each flow.
        latent: Most dimensions of z; see :class:`DensityHead`. 16 in the authors' code.

    Raises:
        ConfigError: A setting is out of range.
    """

    name = "natural_posterior"
    gives = ("log_alpha", "log_density")
    reach = 3.0

    def __init__(self, width: int, classes: int, *, flow_length: int = 8, latent: int = 16) -> None:
        super().__init__(width, classes, classes, flow_length=flow_length, latent=latent)
        self.likelihood = nn.Linear(self.latent_width, classes)
        budget = torch.tensor(self.log_normal_budget, dtype=torch.float64)
        self.register_buffer("log_budget", budget)

    def log_densities(self, latent: Tensor) -> Tensor:
        """Give log p(z) + log χ_c."""
        density = torch.logsumexp(self.flows(latent), dim=1, keepdim=True) - math.log(self.classes)
        return density + torch.log_softmax(self.likelihood(latent).double(), dim=1)


def _checked(counts: Tensor, classes: int) -> Tensor:
    """Give counts (C,) as float64, all at least 1."""
    counts = torch.as_tensor(counts).double()
    if counts.shape != (classes,):
        raise ConfigError(
            f"posterior: counts must be ({classes},), one for each class, got "
            f"{tuple(counts.shape)}; count the labels of the training split"
        )
    absent = (~(counts >= 1)).nonzero().flatten().tolist()
    if absent:
        raise ConfigError(
            f"posterior: every class must have training rows, got none of class "
            f"{', '.join(map(str, absent))}; add rows of it or set budget: normal"
        )
    return counts


def _check_evidence(log_budget: float, width: int) -> None:
    """Refuse a width at which rows of the first batches have next to no evidence."""
    evidence = log_budget - width * _NATS
    if evidence < _LEAST:
        raise ConfigError(
            f"posterior: latent vectors must have few dimensions, got {width}, where a row has "
            f"evidence of about exp({evidence:.0f}) at first and no gradient; set latent: 6"
        )
