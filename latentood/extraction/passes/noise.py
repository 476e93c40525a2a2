"""Random masks that depend on the row and the pass alone, and the noises built on them.

Every random number is a hash of (seed, split, row, pass, site, element): the SplitMix64
generator (Steele, Lea, Flood 2014), whose n-th output is a mix of ``key + n·γ``, so any element
can be drawn without the ones before it. The same row therefore gets the same masks whatever
the batch size, block, device or engine, and nothing is drawn in place, which is what ``vmap``
needs. Pass ``OFF`` is the deterministic one: every noise is then the identity.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from latentood.models.dropblock import VARIANTS, scale

OFF = -1
"""Index of the pass in which all noise is off."""

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the γ of SplitMix64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Logical right shift (torch's is arithmetic)."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def mix(bits: Tensor) -> Tensor:
    """Scramble int64 values: the output function of SplitMix64."""
    bits = (bits ^ _shifted(bits, 30)) * _MIX_1
    bits = (bits ^ _shifted(bits, 27)) * _MIX_2
    return bits ^ _shifted(bits, 31)


def row_keys(seed: int, rows: Tensor) -> Tensor:
    """Give every row of a split its own key: row numbers (B,) → (B,), both int64.

    ``seed`` are 64 bits that name the run and the split.
    """
    return mix(mix(rows * _GOLDEN) ^ seed)


def streams(keys: Tensor, index: Tensor, site: int) -> Tensor:
    """Give the state of the generator for every row: (B,) int64.

    ``keys`` (B,) are those of :func:`row_keys`, ``index`` is that of the pass (a scalar, which
    ``vmap`` may map), and ``site`` the random stream of the stochastic module.
    """
    return mix(keys + mix((index + 1) * _GOLDEN + site))


def uniform(keys: Tensor, index: Tensor, site: int, size: int) -> Tensor:
    """Draw ``size`` numbers for every row: (B, size) float32 in [0, 1), 24 random bits each.

    The other arguments are those of :func:`streams`.
    """
    stream = streams(keys, index, site)
    counters = torch.arange(1, size + 1, device=keys.device) * _GOLDEN
    return _shifted(mix(stream[:, None] + counters), 40).float() * 2.0**-24


class Noise(ABC):
    """One kind of stochastic module, applied to (B, …) activations."""

    @abstractmethod
    def apply(self, x: Tensor, keys: Tensor, index: Tensor, site: int) -> Tensor:
        """Disturb activations in one pass; the identity in pass ``OFF``."""


class Mask(Noise):
    """Noise that multiplies the activations by a random mask."""

    @abstractmethod
    def mask(self, keys: Tensor, index: Tensor, site: int, shape: tuple[int, ...]) -> Tensor:
        """Draw the factors for activations (B, *shape): a tensor that broadcasts to them."""

    def apply(self, x: Tensor, keys: Tensor, index: Tensor, site: int) -> Tensor:
        """Disturb activations (B, …) in one pass."""
        mask = self.mask(keys, index, site, tuple(x.shape[1:]))
        return x * torch.where(index < 0, 1.0, mask).to(x.dtype)


@dataclass(frozen=True)
class Dropout(Mask):
    """Dropout (Srivastava et al. 2014) of single elements, or of whole channels or rows.

    ``axes`` says how many leading axes of one row's activations get a draw of their own: ``None``
    all (elements), 1 the channels (Dropout1d/2d/3d), 0 the whole row (DropPath, StochasticDepth).
    """

    p: float  # probability to drop
    axes: int | None = None
    scale: bool = True  # divide what is kept by 1−p
    unbatched: int | None = None  # with so many axes a row, torch takes the rows for channels

    def mask(self, keys: Tensor, index: Tensor, site: int, shape: tuple[int, ...]) -> Tensor:
        """Draw the factors for activations (B, *shape)."""
        axes = len(shape) if self.axes is None else self.axes
        axes = 0 if len(shape) == self.unbatched else axes
        drawn = shape[:axes] + (1,) * (len(shape) - axes)
        kept = uniform(keys, index, site, math.prod(drawn)) >= self.p
        scaled = self.scale and self.p < 1  # at p = 1 nothing is kept
        return kept.float().reshape(-1, *drawn) * (1 / (1 - self.p) if scaled else 1.0)


@dataclass(frozen=True)
class DropBlock(Mask):
    """Drop squares of the map (Ghiasi, Lin, Le 2018, arXiv:1810.12890, algorithm 1).

    What is kept is scaled by count(M)/count_ones(M) of the row's own mask, so that a row's
    result does not depend on its batch (libraries count over the whole batch). A row that loses
    everything becomes zeros.
    """

    p: float  # probability to drop (1 − keep_prob)
    block_size: int  # side of the squares
    shared: bool = True  # one mask for all channels, instead of one per channel
    variant: str = "paper"  # whose squares, a name of VARIANTS
    scale: bool = True  # scale up what is kept

    def mask(self, keys: Tensor, index: Tensor, site: int, shape: tuple[int, ...]) -> Tensor:
        """Draw the factors for activations (B, *shape)."""
        channels = 1 if self.shared else shape[0]
        blocks = VARIANTS[self.variant](self.p, self.block_size, shape[1:])
        draws = uniform(keys, index, site, channels * math.prod(blocks.places))
        kept = blocks.keep(draws.reshape(-1, channels, *blocks.places))
        return kept * scale(kept) if self.scale else kept


@dataclass(frozen=True)
class AlphaDropout(Noise):
    """Dropout that keeps mean and variance under SELU (Klambauer et al. 2017, sec. 3)."""

    p: float  # probability to drop
    axes: int | None = None  # as for Dropout; 1 gives FeatureAlphaDropout

    def apply(self, x: Tensor, keys: Tensor, index: Tensor, site: int) -> Tensor:
        """Disturb activations (B, …) in one pass."""
        saturated = -1.7580993408473766  # −λα of SELU
        kept = Dropout(self.p, self.axes, scale=False).mask(keys, index, site, tuple(x.shape[1:]))
        if self.p == 1:  # torch gives zeros, not the saturated value
            return torch.where(index < 0, x, torch.zeros_like(x))
        a = ((1 - self.p) * (1 + self.p * saturated**2)) ** -0.5
        b = -a * self.p * saturated
        disturbed = a * (x * kept + saturated * (1 - kept)) + b
        return torch.where(index < 0, x, disturbed.to(x.dtype))
