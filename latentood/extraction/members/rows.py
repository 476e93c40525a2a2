"""Images of a mixed split, whose labels say whether they are OOD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentood.errors import DataError
from latentood.extraction.members.targets import IMAGE_OOD, Targets, states_of
from latentood.latents import Key
from latentood.pipeline.members import Ood
from latentood.store.schema import ArraySpec


@dataclass(frozen=True)
class RowTargets(Targets):
    """Turns the labels of images into what they are: OOD where ``ood.labels`` has them."""

    split: str
    ood: Ood
    labelled: bool

    def __post_init__(self) -> None:
        if not self.labelled or not self.ood.labels:
            lacking = "items have no labels" if self.ood.labels else "ood.labels is empty"
            raise DataError(
                f"split {self.split!r}: labels of a split of role mixed must say what is OOD, but "
                f"{lacking}; give (image, label) and ood: {{labels: [...]}}, or another role"
            )

    @property
    def kept(self) -> None:
        """None: there are no members."""
        return None

    def arrays(self) -> list[ArraySpec]:
        """Lay out what :meth:`read` gives."""
        return [ArraySpec(IMAGE_OOD, (), "uint8")]

    def read(
        self, targets: Tensor, keys: Tensor, ids: Sequence[str]
    ) -> tuple[None, dict[Key, Tensor]]:
        """Say what B images are."""
        return None, {IMAGE_OOD: states_of(targets, self.ood)}
