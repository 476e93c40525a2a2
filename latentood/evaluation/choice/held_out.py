"""ID classes in the place of OOD: detectors are fitted without them.

A weak proxy. The network was trained on these classes and gives them features of their own, so
that what tells them from the others need not tell real OOD from ID. Their columns of the logits
and of the head are left out, since a network of the other classes alone would not have them, but
the features are those of the whole network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentood.errors import ConfigError
from latentood.latents import LABELS, Latents
from latentood.latents.views import some_rows, with_classes_cut, without_classes


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows of some classes to fit and compare with, and rows of others as OOD."""

    classes: tuple[int, ...]
    fit: Latents
    val: Latents
    ood: Latents


def held_out(fit: Latents, val: Latents, asked: int | tuple[int, ...], seed: int) -> HeldOut:
    """Hold classes out of the fit rows; their val rows are then OOD, the other val rows ID.

    Args:
        fit: Rows of the fit split, with labels.
        val: Rows of the val split, with labels.
        asked: How many classes, drawn by the seed, or which.
        seed: Decides which, where only their number is given.

    Raises:
        ConfigError: No such classes, or fewer than two are left.
        MissingInput: There are no labels.
    """
    for rows in (fit, val):
        rows.require([LABELS], who="hold-out-classes")
    labels = val[LABELS].cpu().long()
    there = sorted(set(fit[LABELS].tolist()) & set(labels.tolist()) - {-1})
    classes = _drawn(there, asked, seed) if isinstance(asked, int) else tuple(sorted(set(asked)))
    kept = [one for one in there if one not in classes]
    if not set(classes) <= set(there) or len(kept) < 2:
        raise ConfigError(
            f"hold-out-classes: must name classes of the fit and val rows, {_some(there)}, and "
            f"leave 2 of them, got {_some(classes)}; name fewer or others"
        )
    places = torch.tensor(kept)
    chosen = torch.isin(labels, torch.tensor(classes)).nonzero()[:, 0]
    return HeldOut(
        classes,
        without_classes(fit, places),
        without_classes(val, places),
        with_classes_cut(some_rows(val, chosen), places),
    )


def _drawn(there: list[int], count: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(there), generator=generator).tolist()
    return tuple(sorted(there[place] for place in order[:count]))


def _some(classes: list[int] | tuple[int, ...]) -> str:
    shown = ", ".join(map(str, classes[:20]))
    return (shown + ", …" * (len(classes) > 20)) or "none"
