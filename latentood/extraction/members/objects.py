"""What a cache holds of the boxes of a detector beside its outputs: of which objects they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentood.data.items import NO_LABEL
from latentood.errors import DataError
from latentood.extraction.members.chosen import Chosen, choose
from latentood.extraction.members.targets import (
    IMAGE_OOD,
    Targets,
    of_images,
    require_targets,
    states_of,
)
from latentood.extraction.model.detections import padded
from latentood.extraction.passes.detecting import COUNT, XYXY
from latentood.latents import Key
from latentood.latents.facts import FITTED_ROLES, ID, IGNORED, OOD, Role, state_of
from latentood.pipeline.members import Ood
from latentood.store.schema import ArraySpec

LABELS, BOX_OOD = Key("labels", unit="box"), Key("ood", unit="box")
_OBJECTS = {kind: Key(kind, unit="object") for kind in ("count", "xyxy", "labels", "ood")}


@dataclass(frozen=True)
class BoxTargets(Targets):
    """Turns the true objects of a split into what is kept of boxes.

    A box is of the object that it overlaps most, where the overlap is large enough, and has its
    label; the others have none. Boxes of a mixed split are OOD where their object is, ID where it
    is known, and not counted where there is none; those of an ID split likewise, but never OOD;
    those of near, far and tune splits are all OOD. Splits to fit and calibrate on keep boxes of
    known objects alone. Without targets all boxes are kept, and are what the role of their split
    says.
    """

    split: str
    role: Role
    ood: Ood
    most: int  # K, boxes of an image, and true objects
    labelled: bool  # whether there are targets

    def __post_init__(self) -> None:
        require_targets(self.split, self.role, self.labelled, "boxes", "{'boxes': …, 'labels': …}")

    @property
    def kept(self) -> int:
        """K, how many boxes of an image are kept at most."""
        return self.most

    def arrays(self) -> list[ArraySpec]:
        """Lay out what :meth:`read` and :meth:`objects` give."""
        specs = []
        if self.labelled:
            specs.append(ArraySpec(LABELS, (self.most,), "int16"))
        if self.role in FITTED_ROLES:
            return specs
        specs += [ArraySpec(BOX_OOD, (self.most,), "uint8"), ArraySpec(IMAGE_OOD, (), "uint8")]
        if self.labelled:
            specs += [
                ArraySpec(_OBJECTS["count"], (), "int32"),
                ArraySpec(_OBJECTS["xyxy"], (self.most, 4), "float32"),
                ArraySpec(_OBJECTS["labels"], (self.most,), "int16"),
                ArraySpec(_OBJECTS["ood"], (self.most,), "uint8"),
            ]
        return specs

    def read(
        self, targets: Sequence[Any], keys: Tensor, ids: Sequence[str]
    ) -> tuple[None, dict[Key, Tensor]]:
        """Give what is kept of the true objects of B images.

        Raises:
            DataError: An image has more than can be kept.
        """
        return None, {} if self.role in FITTED_ROLES else self._objects(targets, ids)

    def _objects(self, targets: Sequence[Any], ids: Sequence[str]) -> dict[Key, Tensor]:
        if not self.labelled:
            state = state_of(self.role)
            return {IMAGE_OOD: torch.full((len(targets),), state, dtype=torch.uint8)}
        for name, target in zip(ids, targets, strict=True):
            if len(target["boxes"]) > self.most:
                raise DataError(
                    f"split {self.split!r}: an image may have at most boxes.max true objects, "
                    f"{self.most}, got {len(target['boxes'])} in {name}; raise boxes.max"
                )
        states = [self._states(target["labels"]) for target in targets]
        of_role = state_of(self.role)
        images = torch.stack(
            [of_images(one[None])[0] if len(one) else torch.tensor(of_role) for one in states]
        )
        if state_of(self.role) == OOD:
            images = torch.full_like(images, OOD)
        return {
            _OBJECTS["count"]: torch.tensor([len(one) for one in states]),
            _OBJECTS["xyxy"]: padded([target["boxes"] for target in targets], self.most),
            _OBJECTS["labels"]: padded([target["labels"] for target in targets], self.most),
            _OBJECTS["ood"]: padded(states, self.most),
            IMAGE_OOD: images,
        }

    def boxes(
        self, found: Mapping[str, Tensor], targets: Sequence[Any], keys: Tensor
    ) -> tuple[Chosen, dict[Key, Tensor]]:
        """Choose the boxes of B images, and say of which objects they are.

        Args:
            found: The boxes, (B, K, 4), and how many each image has, (B,).
            targets: The true objects of each image; anything where there are none.
            keys: (B,) int64, a key of each image.
        """
        xyxy, count = found[XYXY].cpu(), found[COUNT].cpu()
        there = torch.arange(self.most) < count[:, None]
        if not self.labelled:
            state = state_of(self.role)
            ood = torch.full(there.shape, state, dtype=torch.uint8)
            chosen = choose(there, keys, self.most)
            states = {} if self.role in FITTED_ROLES else {BOX_OOD: chosen.cleared(ood)}
            return chosen, {COUNT: chosen.count, **states}
        labels, ood = self._matched(xyxy, there, targets)
        chosen = choose(
            there & (ood == ID) if self.role in FITTED_ROLES else there, keys, self.most
        )
        arrays = {COUNT: chosen.count, LABELS: chosen.take(labels)}
        if self.role not in FITTED_ROLES:
            arrays[BOX_OOD] = chosen.take(ood)
        return chosen, arrays

    def _matched(
        self, xyxy: Tensor, there: Tensor, targets: Sequence[Any]
    ) -> tuple[Tensor, Tensor]:
        """Give the label and the state of the object that each box is of: (B, K) each."""
        from torchvision.ops import box_iou

        labels = torch.full(there.shape, NO_LABEL)
        ood = torch.full(there.shape, IGNORED, dtype=torch.uint8)
        for image, target in enumerate(targets):
            if not len(target["boxes"]):
                continue
            overlap, nearest = box_iou(xyxy[image], target["boxes"]).max(dim=1)
            close = (overlap >= self.ood.iou) & there[image]
            of = target["labels"][nearest]
            labels[image] = torch.where(close, of, NO_LABEL)
            ood[image] = torch.where(close, self._states(of), IGNORED)
        if state_of(self.role) == OOD:
            ood = torch.full_like(ood, OOD)
        elif self.role != "mixed":
            ood = torch.where(ood == OOD, IGNORED, ood)
        return labels, ood

    def _states(self, labels: Tensor) -> Tensor:
        """Say of objects with these labels what they are: 0 ID, 1 OOD, 255 ignored."""
        return states_of(labels, self.ood)
