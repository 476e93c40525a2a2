"""Softmax probabilities and their entropies, in nats."""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy over the last axis, with 0·log 0 = 0.

    Args:
        probabilities: (..., C), each row summing to 1.

    Returns:
        (...) nats, in [0, log C].
    """
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(dim=-1)


def softmax_entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits) over the last axis, exact where a probability underflows.

    Args:
        logits: (..., C).

    Returns:
        (...) nats, in [0, log C].
    """
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)
