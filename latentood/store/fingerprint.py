"""Fingerprints of weights, so that a cache records whose results it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from latentood.latents.facts import canonical

if TYPE_CHECKING:
    from torch import Tensor


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of named tensors, as 64 hex digits.

    Args:
        tensors: name → tensor of any dtype, on any device, e.g. a state dict.

    Returns:
        The hash over the sorted names with dtype, shape and bytes; the order of the mapping,
        the device and the strides do not matter.
    """
    import torch

    running = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous().reshape(-1)
        about = [name, str(tensor.dtype), list(tensors[name].shape)]
        running.update(canonical(about).encode())
        # NumPy has no bfloat16, but every dtype can be seen as bytes.
        running.update(tensor.view(torch.uint8).numpy().data)
    return running.hexdigest()
