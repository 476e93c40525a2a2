"""The newest feature vectors of every class, which some objectives fit densities to."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """The last Q feature vectors of each of C classes; the width D is that of the first ones.

    The rows are an extra state of the module, not a buffer: their width is not known when the
    module is made, and a moving average of the weights is not one of these rows. A state dict
    without them loads as well, and leaves the queue as it is.

    Args:
        classes: C.
        size: Q.
    """

    STATE = "_extra_state"
    """Name of the rows in the state dict of this module."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes = classes
        self.size = size
        self._rows = torch.empty(classes, size, 0)
        self._written = torch.zeros(classes, dtype=torch.int64)  # below 2Q, as only w mod Q counts

    @property
    def count(self) -> int:
        """Count the rows that are there."""
        return int(self._written.clamp(max=self.size).sum())

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add rows (B, D) of classes (B,); in a full class each takes the place of its oldest."""
        if self._rows.shape[2] != features.shape[1]:
            self._rows = self._rows.new_zeros(*self._rows.shape[:2], features.shape[1])
            self._written = torch.zeros_like(self._written)
        self._rows = self._rows.to(features.device)
        self._written = self._written.to(features.device)
        member = F.one_hot(labels, self.classes)  # (B, C)
        place = (member.cumsum(dim=0) * member).sum(dim=1) - 1  # of a row among those of its class
        counts = member.sum(dim=0)
        # A slot must not be written twice at once: on a GPU either row could stay.
        new = place >= counts[labels] - self.size
        slots = (self._written[labels] + place) % self.size
        self._rows[labels[new], slots[new]] = features[new].to(self._rows.dtype)
        written = self._written + counts
        full = self.size + written % self.size
        self._written = torch.where(written < 2 * self.size, written, full)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Give the rows (N, D), by class, and their classes (N,)."""
        held = self._written.clamp(max=self.size).unsqueeze(1)
        there = torch.arange(self.size, device=held.device) < held  # (C, Q)
        return self._rows[there], there.nonzero()[:, 0]

    def get_extra_state(self) -> Tensor:
        """Give rows and counts as one tensor (C, Q, D+1): the last column has the counts."""
        counts = self._written.to(self._rows.dtype).view(-1, 1, 1)
        return torch.cat([self._rows, counts.expand(-1, self.size, 1)], dim=2)

    def set_extra_state(self, state: Any) -> None:
        """Take what :meth:`get_extra_state` gave."""
        self._rows = state[:, :, :-1].clone()
        self._written = state[:, 0, -1].to(torch.int64)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        state_dict.setdefault(prefix + self.STATE, self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *args)
