"""Batch norms under ``vmap``, as affine maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FrozenNorms(TorchFunctionMode):
    """Compute ``F.batch_norm`` with running statistics as an affine map of every channel.

    Under ``vmap`` torch moves the passes beside the channels and back to normalise them, which
    copies every activation twice and takes as long as the convolutions.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is F.batch_norm and (affine := _affine(*args, **given)) is not None:
            return affine
        return func(*args, **given)


def _affine(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return None
    wide = torch.promote_types(input.dtype, torch.float32)  # half precision is rounded once
    scale = torch.rsqrt(running_var.to(wide) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    each = (-1,) + (1,) * (input.dim() - 2)
    return torch.addcmul(shift.view(each), input, scale.view(each)).to(input.dtype)
