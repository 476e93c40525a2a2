"""Several networks of one architecture that predict together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentood.errors import ModelError


class Ensemble(nn.Module):
    """A deep ensemble: M networks, trained alike from different seeds.

    Lakshminarayanan et al. 2017, arXiv:1612.01474, sec. 2.4: the probabilities of the ensemble are
    the mean of those of its members, p = (1/M)·Σ_m softmax(z_m). A cache needs logits, which that
    leaves open up to a number for each row: here it is the one for which log Σ_k exp(z_k) is the
    mean of that of the members. So MSP and entropy are those of p, energies are mean energies,
    and the logits of an ensemble of one are those of its member.

    The state dict has the keys of the members behind ``members.0.``, ``members.1.``, …

    Args:
        members: M ≥ 1 networks; each gives logits (B, C, …).
        select: Takes the logits out of what a member gives, where it gives more.

    Raises:
        ModelError: There are no members.
    """

    def __init__(
        self, members: Sequence[nn.Module], *, select: Callable[[Any], Tensor] | None = None
    ) -> None:
        super().__init__()
        if not members:
            raise ModelError("Ensemble: needs at least one member, got none; give members: […]")
        self.members = nn.ModuleList(members)
        self.select = select

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the logits of the mean probability: (B, …) → (B, C, …)."""
        return combined_logits(self.member_logits(inputs))

    def member_logits(self, inputs: Tensor) -> Tensor:
        """Give the logits of every member: (B, M, C, …).

        Raises:
            ModelError: They differ in shape.
        """
        return stacked_logits([self.logits_of(m, inputs) for m in range(len(self.members))])

    def logits_of(self, number: int, inputs: Tensor) -> Tensor:
        """Give the logits of one member: (B, C, …)."""
        output = self.members[number](inputs)
        return output if self.select is None else self.select(output)


def networks_of(model: nn.Module) -> list[nn.Module]:
    """List the members of an ensemble, or the one network that a model is."""
    return list(model.members) if isinstance(model, Ensemble) else [model]


def stacked_logits(logits: Sequence[Tensor]) -> Tensor:
    """Stack the logits of members (B, C, …) to (B, M, C, …).

    Raises:
        ModelError: They differ in shape.
    """
    for number, one in enumerate(logits):
        if one.shape != logits[0].shape:
            raise ModelError(
                "Ensemble: all members must give logits of the same shape, got "
                f"{tuple(logits[0].shape)} of member 0 and {tuple(one.shape)} of member {number}; "
                "give them the same classes"
            )
    return torch.stack(list(logits), dim=1)


def combined_logits(logits: Tensor) -> Tensor:
    """Combine the logits of members (B, M, C, …) to those of their mean probability (B, C, …)."""
    totals = torch.logsumexp(logits, dim=2, keepdim=True)  # (B, M, 1, …)
    mean = torch.logsumexp(logits - totals, dim=1) - math.log(logits.shape[1])
    return mean + totals.mean(dim=1)


def ensemble_of(member: nn.Module, size: int) -> Ensemble:
    """Make an ensemble of copies of a network, to load the weights of trained members into.

    For a pipeline: ``target: latentood.models.ensemble_of`` with ``args: {member: {target: …},
    size: 5}``.

    Args:
        member: The architecture.
        size: M ≥ 1.

    Raises:
        ModelError: M is below 1.
    """
    return Ensemble([copy.deepcopy(member) for _ in range(size)])
