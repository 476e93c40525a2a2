"""Which members of each image of a batch are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.extraction.passes.noise import mix

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the γ of SplitMix64


@dataclass(frozen=True)
class Chosen:
    """K of the members of each of B images, in the order of their places."""

    index: Tensor  # (B, K) int64, their places; arbitrary where none is left
    there: Tensor  # (B, K) bool, False where none is left; these come last

    @property
    def count(self) -> Tensor:
        """Count the members of each image: (B,)."""
        return self.there.sum(dim=1)

    def take(self, values: Tensor) -> Tensor:
        """Take the kept members of all: (B, places, …) → (B, K, …), zeros where none is left."""
        index = self.index.to(values.device)
        if index.shape[1] == values.shape[1] and bool(self.there.all()):
            return values
        tail = values.shape[2:]
        spread = index.view(*index.shape, *(1 for _ in tail)).expand(*index.shape, *tail)
        return self.cleared(values.gather(1, spread))

    def cleared(self, values: Tensor) -> Tensor:
        """Put zeros where no member is left: (B, K, …)."""
        absent = ~self.there.to(values.device)
        return values.masked_fill(absent.view(*absent.shape, *(1 for _ in values.shape[2:])), 0)

    def rows(self, start: int, stop: int) -> Chosen:
        """Give those of some images of the batch."""
        return Chosen(self.index[start:stop], self.there[start:stop])


def choose(allowed: Tensor, keys: Tensor, most: int) -> Chosen:
    """Choose members by a hash of their image and their place, all where there are no more.

    So they are the same in any batch, order and process.

    Args:
        allowed: (B, places) bool, which may be chosen.
        keys: (B,) int64, a key of each image.
        most: K.
    """
    places = allowed.shape[1]
    if most < places:
        order = mix(keys[:, None] ^ mix((torch.arange(places) + 1) * _GOLDEN))
        order = order.masked_fill(~allowed, torch.iinfo(torch.int64).max)
        wanted = order.argsort(dim=1, stable=True)[:, :most]
        kept = allowed.gather(1, wanted)
    else:
        wanted, kept = torch.arange(places).expand(len(allowed), -1), allowed
    position = torch.where(kept, wanted, places)  # places that are not kept go last
    index, _ = position.sort(dim=1)
    return Chosen(index.clamp(max=places - 1), index < places)
