"""The sections of a pipeline file about cells and boxes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from latentood.latents.facts import Role
from latentood.pipeline.sections import Section

MemberUnit = Literal["image", "cell", "box"]
"""What arrays are kept about, and what a score is about."""

PixelLabel = Annotated[int, Field(ge=0, le=255)]


class Cells(Section):
    """The grid of a segmenter: one for all layers."""

    stride: int = Field(8, ge=1, description="Side of a cell in pixels; it divides the image.")
    sample: dict[Role, Annotated[int, Field(ge=1)] | None] = Field(
        {"fit": 512},
        description="Cells that are kept of each image of a role, chosen by a hash; of roles that "
        "are not named, or null, all are.",
    )


class Boxes(Section):
    """The objects of a detector that are kept."""

    score_threshold: float = Field(
        0.3, ge=0, le=1, description="Smallest confidence of a box that is kept."
    )
    max: int = Field(
        100, ge=1, description="Most boxes of an image, those of the highest confidence, and most "
        "true objects."
    )  # fmt: skip
    roi: int = Field(
        7, ge=1, description="Side of the grid of a box that features are averaged of."
    )


class Ood(Section):
    """How targets say which pixels or objects are OOD, in splits that have targets."""

    mask_values: list[PixelLabel] = Field([], description="Labels of pixels that are OOD.")
    labels: list[int] = Field([], description="Labels of objects, or of images, that are OOD.")
    ignore: list[PixelLabel] = Field(
        [255],
        min_length=1,
        description="Labels of pixels that are neither; transforms fill with the first.",
    )
    iou: float = Field(
        0.5, gt=0, le=1, description="Least overlap of a box and the object that it is of."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = sorted(set(self.mask_values) & set(self.ignore))
        if both:
            raise ValueError(f"a label must be in mask_values or in ignore, got {both[0]} in both")
        return self
