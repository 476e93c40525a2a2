"""What a cache holds of the cells of a segmenter beside the outputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latentood.data.items import NO_LABEL
from latentood.extraction.members.chosen import Chosen, choose
from latentood.extraction.members.targets import (
    IMAGE_OOD,
    Targets,
    of_images,
    require_targets,
)
from latentood.extraction.model.grid import Grid
from latentood.latents import Key
from latentood.latents.facts import FITTED_ROLES, ID, IGNORED, OOD, Role, state_of
from latentood.pipeline.members import Ood
from latentood.store.schema import ArraySpec

MASKS = Key("masks")
_COUNT, _PLACE, _LABELS, _OOD = (
    Key(kind, unit="cell") for kind in ("count", "place", "labels", "ood")
)


@dataclass(frozen=True)
class CellTargets(Targets):
    """Turns the masks of a split into what is kept of pixels and cells.

    The label of a cell is that of most of its pixels, the smallest of equally many; so is whether
    it is ID, OOD or ignored. Splits to fit and calibrate on keep ID cells alone, the others all.
    """

    split: str
    role: Role
    ood: Ood
    grid: Grid
    height: int  # of an image
    width: int
    classes: int  # C
    sample: int | None  # most cells of an image
    labelled: bool  # whether there are masks

    def __post_init__(self) -> None:
        require_targets(self.split, self.role, self.labelled, "masks", "mask")

    @property
    def kept(self) -> int:
        """K, how many cells of an image are kept."""
        return min(self.grid.cells, self.sample or self.grid.cells)

    def arrays(self) -> list[ArraySpec]:
        """Lay out what :meth:`read` gives."""
        specs = [ArraySpec(_COUNT, (), "int32"), ArraySpec(_PLACE, (self.kept, 2), "int16")]
        if self.labelled:
            specs.append(ArraySpec(_LABELS, (self.kept,), "int16"))
        if self.role not in FITTED_ROLES:
            specs += [
                ArraySpec(_OOD, (self.kept,), "uint8"),
                ArraySpec(MASKS, (self.height, self.width), "uint8"),
                ArraySpec(IMAGE_OOD, (), "uint8"),
            ]
        return specs

    def read(
        self, targets: Tensor, keys: Tensor, ids: Sequence[str]
    ) -> tuple[Chosen, dict[Key, Tensor]]:
        """Choose the cells of B images, and give what masks (B, H, W) say of them."""
        labels, ood, pixels = self._read(targets, len(keys))
        fitted = self.role in FITTED_ROLES
        allowed = ood == ID if fitted else torch.ones_like(ood, dtype=torch.bool)
        chosen = choose(allowed, keys, self.kept)
        place = torch.stack(
            [chosen.index // self.grid.columns, chosen.index % self.grid.columns], dim=2
        )
        arrays = {_COUNT: chosen.count, _PLACE: chosen.cleared(place)}
        if self.labelled:
            arrays[_LABELS] = chosen.take(labels)
        if not fitted:
            arrays |= {_OOD: chosen.take(ood), MASKS: pixels, IMAGE_OOD: of_images(pixels)}
        return chosen, arrays

    def _read(self, masks: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give labels and OOD of all cells (B, cells), and OOD of all pixels (B, H, W)."""
        if not self.labelled:
            state = state_of(self.role)
            cells = torch.full((count, self.grid.cells), state, dtype=torch.uint8)
            pixels = torch.full((count, self.height, self.width), state, dtype=torch.uint8)
            return cells, cells, pixels
        codes = self._codes[masks]
        most = self._majority(codes)
        labels = torch.where(most < self.classes, most, NO_LABEL)
        return labels, self._states[most], self._states[codes]

    @cached_property
    def _codes(self) -> Tensor:
        """Label of a pixel → its class, or C for one to ignore, or C + 1 for any other."""
        codes = torch.full((max(256, self.classes),), self.classes + 1)
        codes[: self.classes] = torch.arange(self.classes)
        codes[self.ood.mask_values] = self.classes + 1
        codes[self.ood.ignore] = self.classes
        return codes

    @cached_property
    def _states(self) -> Tensor:
        """Code → ID, OOD or ignored."""
        known = state_of(self.role)
        states = torch.full((self.classes + 2,), known, dtype=torch.uint8)
        states[self.classes], states[self.classes + 1] = IGNORED, OOD
        return states

    def _majority(self, codes: Tensor) -> Tensor:
        """Give the most frequent code of each cell: (B, H, W) → (B, cells) int64."""
        grid, kinds = self.grid, self.classes + 2
        tiles = codes.view(len(codes), grid.rows, -1, grid.columns, self.width // grid.columns)
        cell = torch.arange(len(codes) * grid.cells).view(len(codes), grid.rows, 1, grid.columns, 1)
        places = (cell * kinds + tiles).flatten().numpy()
        counts = np.bincount(places, minlength=len(codes) * grid.cells * kinds)
        most = counts.reshape(len(codes), grid.cells, kinds).argmax(axis=2)
        return torch.from_numpy(most)
