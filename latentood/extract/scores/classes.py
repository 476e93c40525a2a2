"""Sums over the classes of the fit rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentood.latents import LABELS, Latents
from latentood.stats.moments import GroupSums


def class_sums(
    fit: Latents, key: str, each: Callable[[Tensor], None] = lambda vectors: None
) -> GroupSums:
    """Sum the features of each class that occurs, in order of label.

    Args:
        fit: Rows with labels.
        key: Array of features.
        each: Called with the features of every block (n, D) float64, in order.

    Raises:
        DataError: A value is not finite.
    """
    present = fit[LABELS].long().unique()
    sums = GroupSums(len(present), fit.shape(key)[1], present.device)
    for block in fit.blocks((key, LABELS)):
        block.require_finite()
        vectors = block.double(key)
        sums.add(vectors, torch.searchsorted(present, block[LABELS].long()))
        each(vectors)
    return sums
