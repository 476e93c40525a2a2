"""What is taken for the logits of a model: one vector for each image, or for each of its cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentood.errors import ModelError, suggest
from latentood.extraction.model.detections import watched
from latentood.extraction.model.grid import Grid
from latentood.extraction.model.head import output_at, require_finite, select_logits
from latentood.latents import LOGITS, Key
from latentood.pipeline.members import Boxes

_MAPS = ("out", "logits")
"""Usual fields of a segmenter's output: of torchvision's, and of Hugging Face's."""


@dataclass(frozen=True)
class Readout(ABC):
    """What is read of the output of a model."""

    key: ClassVar[Key]
    """What its logits are called."""
    linear: ClassVar[str] = "a linear layer"
    """What a head is."""
    field: str | None  # field or index of the output that holds them

    @abstractmethod
    def given(self, model: nn.Module, batch: Any) -> Tensor | None:
        """Run a model and take its logits as it gives them; None where there are none."""

    def is_linear(self, module: nn.Module) -> bool:
        """Whether a module may be the head: a linear map of features to logits."""
        return isinstance(module, nn.Linear)

    def made_of(self, output: Tensor, logits: Tensor) -> bool:
        """Whether the output of a module is the logits that :meth:`given` gave."""
        return output.shape == logits.shape and output.equal(logits)


@dataclass(frozen=True)
class Logits(Readout):
    """Takes logits out of the output of a model."""

    @abstractmethod
    def whole(self, output: Any) -> Tensor:
        """Take them as the model gives them."""

    @abstractmethod
    def logits(self, output: Any) -> Tensor:
        """Take them as a cache keeps them."""

    def given(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Run a model and take its logits as it gives them."""
        return self.whole(model(batch))


@dataclass(frozen=True)
class RowLogits(Logits):
    """Logits of images: (B, C)."""

    key = LOGITS

    def whole(self, output: Any) -> Tensor:
        """Take (B, C)."""
        return select_logits(output, self.field)

    def logits(self, output: Any) -> Tensor:
        """Take (B, C)."""
        return self.whole(output)


@dataclass(frozen=True)
class CellLogits(Logits):
    """Logits of the cells of a grid, (B, K, C), of a segmenter's maps (B, C, h, w)."""

    key = Key("logits", unit="cell")
    linear = "a 1×1 convolution"
    grid: Grid

    def whole(self, output: Any) -> Tensor:
        """Take (B, C, h, w): the output, its field, or a usual one where it has several."""
        field = self.field
        if field is None and isinstance(output, Mapping):
            field = next((name for name in _MAPS if name in output), None)
        maps = output_at(output, field)
        if maps.dim() != 4:
            raise ModelError(
                f"unit cell: the model must give maps of logits (B, C, H, W), got "
                f"{tuple(maps.shape)}; name their field with model.output:, or set unit: image"
            )
        return maps

    def logits(self, output: Any) -> Tensor:
        """Bring them to the grid."""
        return self.grid.bring(self.whole(output))

    def is_linear(self, module: nn.Module) -> bool:
        """Whether it is a 1×1 convolution."""
        return (
            isinstance(module, nn.Conv2d)
            and set(module.kernel_size) == {1}
            and set(module.stride) == {1}
            and module.groups == 1
        )

    def made_of(self, output: Tensor, logits: Tensor) -> bool:
        """Whether both are equal, as they are or once the output is enlarged bilinearly."""
        if output.dim() != 4 or output.shape[:2] != logits.shape[:2]:
            return False
        if output.shape == logits.shape:
            return output.equal(logits)
        return any(
            torch.allclose(
                F.interpolate(output, logits.shape[2:], mode="bilinear", align_corners=corners),
                logits, rtol=1e-5, atol=1e-6,
            )
            for corners in (False, True)
        )  # fmt: skip


@dataclass(frozen=True)
class BoxReadout(Readout):
    """The boxes of a detector, with their logits where these are of one proposal or query."""

    key = Key("logits", unit="box")
    boxes: Boxes
    head: str | None = None  # name of the linear layer that makes logits of features

    def inputs(self, model: nn.Module, images: Sequence[Tensor]) -> Any:
        """Give B images as a detector takes them: a list, or one tensor for Hugging Face's."""
        if any(one.__module__.startswith("transformers.") for one in type(model).__mro__):
            return torch.stack(list(images))
        return list(images)

    def call(self, model: nn.Module, images: Sequence[Tensor]) -> Any:
        """Run a detector on B images."""
        return model(self.inputs(model, images))

    def given(self, model: nn.Module, batch: Any) -> Tensor | None:
        """Take those of all proposals of an R-CNN, (ΣP, C), or of all queries, (B, Q, C)."""
        with watched(model, None) as seen:
            output = self.call(model, batch)
        return getattr(output, "logits", None) if seen.logits is None else seen.logits


def find_head(
    model: nn.Module, batch: Any, readout: Readout, *, named: str | None = None
) -> str | None:
    """Find the linear layer whose output is the logits; of segmenters a 1×1 convolution.

    Returns:
        Its dotted name, or ``named`` once that is checked; ``None`` if no linear layer gives them.

    Raises:
        ModelError: The named module does not exist or is not linear.
    """
    linear = {name: m for name, m in model.named_modules() if readout.is_linear(m)}
    if named is not None:
        if named not in linear:
            raise ModelError(
                f"head {named!r}: must name {readout.linear}; {suggest(named, linear)}"
            )
        return named
    outputs: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name, module in linear.items():

            def take(m: nn.Module, args: Any, out: Tensor, name: str = name) -> None:
                outputs[name] = out

            hooks.callback(module.register_forward_hook(take).remove)
        logits = readout.given(model, batch)
    if logits is None:
        return None
    require_finite(model, logits)
    return next((n for n, out in reversed(outputs.items()) if readout.made_of(out, logits)), None)
