"""What the targets of a split say beside the class of an image, and what is kept of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.extraction.members.chosen import Chosen
from latentood.latents import Key
from latentood.latents.facts import ID, IGNORED, OOD, Role
from latentood.pipeline.members import Ood
from latentood.store.schema import ArraySpec

IMAGE_OOD = Key("ood")


class Targets(ABC):
    """Reads the targets of a split."""

    @property
    @abstractmethod
    def kept(self) -> int | None:
        """K, how many members of an image are kept at most; None where there are none."""

    @abstractmethod
    def arrays(self) -> list[ArraySpec]:
        """Lay out what is kept."""

    @abstractmethod
    def read(
        self, targets: Any, keys: Tensor, ids: Sequence[str]
    ) -> tuple[Chosen | None, dict[Key, Tensor]]:
        """Give what is kept of the targets of B images, before the model runs.

        Args:
            targets: As the data set gives them; anything where it has none.
            keys: (B,) int64, a key of each image.
            ids: Their names, for messages.

        Returns:
            Which members are kept, where targets say it, and the arrays.
        """


def require_targets(split: str, role: Role, labelled: bool, what: str, example: str) -> None:
    """Check that a split whose members say themselves what they are has targets.

    Raises:
        DataError: It has none.
    """
    if role == "mixed" and not labelled:
        raise DataError(
            f"split {split!r}: items of a split of role mixed must have {what}, got images alone; "
            f"give (image, {example}), or another role"
        )


def of_images(states: Tensor) -> Tensor:
    """Say of B images (B, …) whether something in them is OOD, else ID, else to be ignored."""
    flat = states.flatten(1)
    ood, known = (flat == OOD).any(dim=1), (flat == ID).any(dim=1)
    return torch.where(ood, OOD, torch.where(known, ID, IGNORED)).to(torch.uint8)


def states_of(labels: Tensor, ood: Ood) -> Tensor:
    """Say what objects or images with these labels are: ID, OOD or ignored, uint8."""
    marked = torch.isin(labels, torch.tensor(ood.labels, dtype=torch.int64))
    ignored = torch.isin(labels, torch.tensor(ood.ignore, dtype=torch.int64))
    return torch.where(marked, OOD, torch.where(ignored, IGNORED, ID)).to(torch.uint8)
