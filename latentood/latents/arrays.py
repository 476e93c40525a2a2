"""Checks of arrays that are given: types, shapes, and values that statistics can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latentood.errors import DataError, one_line
from latentood.latents.key import HEAD, Key
from latentood.latents.rows import first_not_finite

LARGEST = 1e150
"""Squares of larger numbers are beyond float64, and so are variances and distances."""

_REAL = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip


def checked_tensor(value: Any, what: str) -> Tensor:
    """Take a tensor, a NumPy array or a nested list as a tensor without gradients.

    Raises:
        DataError: It is no array of real numbers; begins with ``what``.
    """
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{what} must be an array of real numbers, got {type(value).__name__} "
            f"({one_line(error)}); convert it"
        ) from error
    if tensor.dtype not in _REAL:
        raise DataError(f"{what} must hold real numbers, got {tensor.dtype}; convert it")
    return tensor


def checked_hashes(value: Any, what: str) -> Tensor:
    """Take digests of inputs (N,) as a tensor.

    Raises:
        DataError: They are not (N,) int64; begins with ``what``.
    """
    hashes = checked_tensor(value, what)
    if hashes.dtype != torch.int64 or hashes.dim() != 1:
        raise DataError(
            f"{what} must be (N,) int64, a digest of each input, got {tuple(hashes.shape)} "
            f"{hashes.dtype}; convert them, e.g. unsigned ones by .view(np.int64)"
        )
    return hashes


def check_shapes(shapes: Mapping[Key, tuple[int, ...]], name: str) -> int | None:
    """Give the number of classes, where there are logits, of shapes that fit each other.

    Raises:
        DataError: No arrays, an array without columns, or different numbers of rows or classes.
    """
    if not shapes:
        raise DataError(f"{name}: no array was given; give at least one, e.g. logits=")
    for key, shape in shapes.items():
        if not shape or 0 in shape[1:]:
            named = ", ".join(key.axes) + "," * (len(key.axes) == 1)
            raise DataError(
                f"{name}: {key} must be ({named}), each row with ≥ 1 number, got {tuple(shape)}; "
                "look at where it comes from"
            )
    sizes = {key: shape[0] for key, shape in shapes.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key} {size}" for key, size in sizes.items())
        raise DataError(f"{name}: all arrays must have the same number of rows, got {listed}")
    classes = {
        key: shape[-1]
        for key, shape in shapes.items()
        if key.axes[-1:] == ("C",) and len(shape) == len(key.axes)
    }
    if len(set(classes.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in classes.items())
        raise DataError(f"{name}: all logits must have the same number of classes, got {listed}")
    return next(iter(classes.values()), None)


def checked_head(head: tuple[Any, Any], classes: int | None, name: str) -> tuple[Tensor, Tensor]:
    """Take weight (C, D) and bias (C,) as tensors; ``classes`` is C of the logits, if any.

    Raises:
        DataError: Their shapes do not fit each other or the logits, or a value is not finite.
    """
    parts = ("weight", "bias")
    weight, bias = (
        checked_tensor(part, f"{name}: the {which} of the {HEAD}")
        for part, which in zip(head, parts, strict=True)
    )
    if weight.dim() != 2 or 0 in weight.shape or bias.shape != weight.shape[:1]:
        raise DataError(
            f"{name}: the {HEAD} must be a weight (C, D) and a bias (C,), got "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}; give those of the last linear layer"
        )
    if classes not in (None, len(bias)):
        raise DataError(
            f"{name}: the {HEAD} must have the {classes} classes of the logits, got {len(bias)}; "
            "give the head of the same model"
        )
    for which, part in zip(parts, (weight, bias), strict=True):
        if (bad := first_unusable(part)) is not None:
            raise DataError(
                f"{name}: the {which} of the {HEAD} must be {bad[1]} for class {bad[0]}; look at "
                "the model's weights"
            )
    return weight, bias


def first_unusable(values: Tensor) -> tuple[int, str] | None:
    """Find the first row with a bad number: its place, and what it must be and is.

    Bad are NaN and infinity, and what is beyond :data:`LARGEST`, which float64 alone can hold.
    """
    if values.dtype == torch.float64 and values.numel():
        low, high = torch.aminmax(values)  # one pass, as a sum is; NaN in both if there is one
        if low >= -LARGEST and high <= LARGEST:
            return None
    if (row := first_not_finite(values)) is not None:
        return row, "finite, got NaN or infinity"
    if values.dtype != torch.float64 or not values.numel():
        return None
    largest = values.abs().flatten(1).amax(dim=1) if values.dim() > 1 else values.abs()
    row = int((largest > LARGEST).nonzero()[0])
    return row, f"within ±{LARGEST:g}, whose square float64 can hold, got {float(largest[row]):g}"
