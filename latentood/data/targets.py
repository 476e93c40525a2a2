"""What the target of an item is: the number of a class, a mask, or boxes with labels.

A kind of target reads what a data set gives, and applies transforms to an input and its target
together: a flip moves a mask with its image.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latentood.data.items import NO_LABEL
from latentood.errors import one_line

Transform = Callable[..., Any]


class TargetError(Exception):
    """A target is not what it must be; whoever knows its row says where."""

    def __init__(self, allowed: str, got: str, remedy: str) -> None:
        super().__init__(allowed, got, remedy)
        self.allowed, self.got, self.remedy = allowed, got, remedy


class TargetKind(ABC):
    """How targets are read, checked, moved by transforms and put into batches."""

    lists: ClassVar[bool] = False
    """Whether inputs may differ in size, so that a batch is a list of inputs and one of targets."""
    first: int = 0
    """The label of the first class."""

    @abstractmethod
    def read(self, target: Any, image: Any, classes: int | None) -> Any:
        """Turn what a data set gives into what a loss takes.

        Args:
            target: What stands in the place of the label of an item.
            image: The input that it is of: a PIL image, or (…, H, W).
            classes: C, to check labels; None where they may be anything.

        Raises:
            TargetError: It is something else, or a label is not that of a class.
        """

    @abstractmethod
    def labels(self, target: Any) -> Tensor:
        """Give the labels that count in what :meth:`read` gave: (M,) int64."""

    @abstractmethod
    def transform(self, chain: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        """Apply a transform, or the ``steps`` of one, to an input and what moves with it.

        Raises:
            TargetError: The target is something else, or a step takes no target, but must.
        """


class ClassNumbers(TargetKind):
    """The number of a class; transforms are of the input alone."""

    def read(self, target: Any, image: Any, classes: int | None) -> int:
        """Give the number, or ``NO_LABEL``."""
        label = _whole(target)
        if label is None:
            raise TargetError(
                "a label must be the number of a class",
                one_line(ValueError(repr(target)))[:80],
                "give whole numbers from 0, not names, shares or one-hot rows",
            )
        if classes is not None and label != NO_LABEL and not 0 <= label < classes:
            raise TargetError(
                f"labels must be from 0 to {classes - 1}", str(label), "check num_classes"
            )
        return label

    def transform(self, chain: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        """Transform the input."""
        return chain(image), target

    def labels(self, target: Any) -> Tensor:
        """Give the one label."""
        return torch.tensor([target])


CLASS_NUMBERS = ClassNumbers()


class Moved(TargetKind):
    """A target that moves with its image, so that every step of a transform takes both.

    torchvision's transforms (v2) tell them apart by the types of ``torchvision.tv_tensors``, in
    which both are before every step. After it they are plain tensors again.
    """

    def transform(self, chain: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        """Transform both; a step of one's own is called with (image, target) and gives both."""
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        target = self.read(target, image, None)
        for step in getattr(chain, "steps", (chain,)):
            if not isinstance(step, v2.Transform):
                _takes_both(step)
            if isinstance(image, Tensor | np.ndarray):
                image = tv_tensors.Image(torch.as_tensor(image))
            image, target = self._step(step, image, target)
        if isinstance(image, tv_tensors.Image):
            image = image.as_subclass(Tensor)
        return image, self._tidied(target, image)

    @abstractmethod
    def _step(self, step: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        """Apply one step to an input and what :meth:`read` gave."""

    def _tidied(self, target: Any, image: Any) -> Any:
        """Remove what a transform left nothing of."""
        return target


@dataclass(frozen=True)
class Masks(Moved):
    """The class of every pixel: (H, W) whole numbers, as a PIL image, an array or a tensor.

    Pixels that a transform of torchvision adds around an image are ignored: it fills masks with
    0, so labels are shifted while it runs, by as much as makes 0 the label to ignore.

    Args:
        ignore_index: Label of pixels that do not count.
        others: Further labels that are no class.
        remedy: What to do about a label that is none of these.
    """

    ignore_index: int
    others: tuple[int, ...] = ()
    remedy: str = "check training.classes and ignore_index"

    def read(self, target: Any, image: Any, classes: int | None) -> Tensor:
        """Give (H, W) int64, of the size of the image."""
        mask = _numbers(target)
        if mask is None or mask.dim() != 2:
            raise TargetError(
                "a mask must be (H, W) whole numbers", _shown(target),
                "give an image of one channel that holds the class of every pixel",
            )  # fmt: skip
        if tuple(mask.shape) != (size := _size(image)):
            raise TargetError(
                f"a mask must have the size of its image, {size}", str(tuple(mask.shape)),
                "give images as PIL images or (C, H, W), and transforms that take both",
            )  # fmt: skip
        wrong = ((mask < 0) | (mask >= (classes or torch.inf))) & (mask != self.ignore_index)
        if self.others and bool(wrong.any()):
            wrong &= ~torch.isin(mask, torch.tensor(self.others))
        if bool(wrong.any()):
            also = f", or one of {', '.join(map(str, self.others))}" * bool(self.others)
            raise TargetError(
                f"labels of pixels must be {_range(0, classes)}, or {self.ignore_index} to "
                f"ignore{also}", str(int(mask[wrong][0])), self.remedy,
            )  # fmt: skip
        return mask

    def labels(self, target: Any) -> Tensor:
        """Give the labels of the pixels that count."""
        labels: Tensor = target[target != self.ignore_index]
        return labels

    def _step(self, step: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        from torchvision.tv_tensors import Mask

        of_torchvision = type(step).__module__.startswith("torchvision.")
        shift = self.ignore_index if of_torchvision else 0
        image, moved = step(image, Mask(target - shift))
        mask = torch.as_tensor(moved).as_subclass(Tensor)
        whole = mask.long()  # ConvertImageDtype turns masks into floating-point numbers, too
        return image, whole + shift if bool((whole == mask).all()) else mask


@dataclass(frozen=True)
class Boxes(Moved):
    """The objects of an image: a mapping with ``boxes`` (n, 4) and ``labels`` (n,).

    Boxes are x1, y1, x2, y2 in pixels. Other keys are left out. Boxes that a transform leaves no
    area of are removed with their labels; those of a data set must have some.

    Args:
        background: Whether label 0 stands for no object, so that labels are from 1.
    """

    lists = True
    background: bool = True

    @property
    def first(self) -> int:  # type: ignore[override]
        """The label of the first class: 1 beside a background."""
        return int(self.background)

    def read(self, target: Any, image: Any, classes: int | None) -> dict[str, Tensor]:
        """Give ``boxes`` (n, 4) float32 and ``labels`` (n,) int64."""
        if not isinstance(target, Mapping) or not {"boxes", "labels"} <= set(target):
            raise TargetError(
                "a target must be a mapping with boxes and labels", _shown(target),
                "wrap the data set, or name the field with label:",
            )  # fmt: skip
        boxes, labels = _corners(target["boxes"]), _numbers(target["labels"])
        if labels is None or labels.dim() != 1 or len(labels) != len(boxes):
            raise TargetError(
                f"there must be the number of a class for each of {len(boxes)} boxes",
                _shown(target["labels"]), "give boxes (n, 4) and labels (n,)",
            )  # fmt: skip
        wrong = (labels < self.first) | (labels >= (classes or torch.inf))
        if bool(wrong.any()):
            about = " (0 is the background)" if self.background else ""
            raise TargetError(
                f"labels of boxes must be {_range(self.first, classes)}{about}",
                str(int(labels[wrong][0])),
                "check training.classes, and background of the objective",
            )
        return {"boxes": boxes, "labels": labels}

    def labels(self, target: Any) -> Tensor:
        """Give the labels of the boxes."""
        labels: Tensor = target["labels"]
        return labels

    def _step(self, step: Transform, image: Any, target: Any) -> tuple[Any, Any]:
        from torchvision.tv_tensors import BoundingBoxes

        boxes: Any = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=_size(image))
        image, moved = step(image, {**target, "boxes": boxes})
        tensors = {name: torch.as_tensor(value) for name, value in moved.items()}
        return image, {name: value.as_subclass(Tensor) for name, value in tensors.items()}

    def _tidied(self, target: Any, image: Any) -> dict[str, Tensor]:
        height, width = _size(image)
        boxes = target["boxes"].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return {"boxes": boxes[kept], "labels": target["labels"][kept]}


def lists(batch: Sequence[tuple[Any, Any]]) -> list[list[Any]]:
    """Put items into a list of inputs and one of targets."""
    return [list(part) for part in zip(*batch, strict=True)]


def _range(first: int, classes: int | None) -> str:
    return f"≥ {first}" if classes is None else f"from {first} to {classes - 1}"


def _whole(value: Any) -> int | None:
    try:
        return number if (number := int(value)) == value else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _numbers(value: Any) -> Tensor | None:
    """Read whole numbers of any shape as int64; None where there are others."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.size and array.dtype.kind not in "biu":
        return None
    return torch.from_numpy(array.astype(np.int64))


def _corners(value: Any) -> Tensor:
    """Read boxes as (n, 4) float32, each with some area."""
    from torchvision.transforms.v2.functional import convert_bounding_box_format
    from torchvision.tv_tensors import BoundingBoxes

    if isinstance(value, BoundingBoxes):
        value = convert_bounding_box_format(value, new_format="XYXY").as_subclass(Tensor)
    try:
        boxes = torch.as_tensor(np.asarray(value, dtype=np.float32))
    except (TypeError, ValueError):
        boxes = torch.empty(())
    boxes = boxes.reshape(0, 4) if boxes.numel() == 0 and boxes.dim() else boxes
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise TargetError("boxes must be (n, 4): x1, y1, x2, y2", _shown(value), "correct them")
    good = boxes.isfinite().all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if not bool(good.all()):
        raise TargetError(
            "boxes must be x1, y1, x2, y2 with x1 < x2 and y1 < y2", str(boxes[~good][0].tolist()),
            "remove boxes without area, and turn widths and heights into corners",
        )  # fmt: skip
    return boxes


def _takes_both(step: Transform) -> None:
    function = step.forward if isinstance(step, nn.Module) else step
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise TargetError(
            "transforms of images with masks or boxes must take and give both",
            f"{type(step).__name__}, which takes the image alone,",
            "use torchvision.transforms.v2, or write one that does",
        ) from None
    except ValueError:  # a function written in C has no signature; calling it will show
        pass


def _size(image: Any) -> tuple[int, ...]:
    """Give (H, W)."""
    return tuple(image.shape[-2:]) if hasattr(image, "shape") else tuple(image.size[::-1])


def _shown(value: Any) -> str:
    """Say what a target is: its shape and kind of numbers where it has any."""
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(repr, value)) or 'nothing'}"
    if not isinstance(value, Tensor | np.ndarray):
        value = np.asarray(value) if hasattr(value, "mode") or isinstance(value, list) else value
    if hasattr(value, "shape"):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
