"""Batches of inputs: one tensor (B, …), or a list of B images where these may differ in size."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = Any
"""A tensor (B, …), or a list of tensors: both have a length and can be cut."""


def device_of(batch: Inputs) -> torch.device:
    """Give the device of a batch of one input or more."""
    device: torch.device = batch[0].device
    return device


def moved(batch: Inputs, device: torch.device) -> Inputs:
    """Bring a batch to a device, maps laid out as convolutions are faster, on CPU and GPU alike."""
    if not isinstance(batch, Tensor):
        return [image.to(device, non_blocking=True) for image in batch]
    batch = batch.to(device, non_blocking=True)
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


def repeated(row: Inputs, count: int) -> Inputs:
    """Make a batch of one input so many times."""
    if not isinstance(row, Tensor):
        return list(row) * count
    return row.expand(count, *row.shape[1:])
