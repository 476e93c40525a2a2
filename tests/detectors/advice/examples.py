"""Rows of a layer whose classes are as far collapsed as is asked for."""

import torch

from latentood.latents import Latents


def rows(
    *, spread=0.5, classes=4, width=12, each=60, seed=0, shift=0.0, relu=False, dtype=torch.float64
):
    """Give rows about the corners of a simplex, with the head that belongs to them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes * each) % classes
    corners = torch.eye(classes, width, dtype=torch.float64) * 3
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    features = corners[labels] + spread * noise + shift
    features = features.relu() if relu else features
    weight = corners - corners.mean(dim=0)
    logits = features @ weight.T
    return {
        "labels": labels,
        "features": {"penultimate": features.to(dtype)},
        "head": (weight, torch.zeros(classes)),
        "logits": logits,
    }


def latents(*leave_out, name="rows", **options):
    given = rows(**options)
    return Latents(**{key: one for key, one in given.items() if key not in leave_out}, name=name)
