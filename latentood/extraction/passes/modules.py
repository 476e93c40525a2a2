"""Which noise a module is, by the class that defines its ``forward``.

A class is known by its full path: another class of the same name may draw otherwise. Noise of a
class that is not known, a subclass with a ``forward`` of its own included, is run as it is, see
:func:`rerun`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentood.extraction.passes.noise import AlphaDropout, DropBlock, Dropout, Noise


@dataclass(frozen=True)
class Unknown:
    """The noise of a module whose class is not known."""

    kind: str  # path of the class


def dropout1d(p: float) -> Noise:
    """Give the noise of ``F.dropout1d``, which takes (N, D) for the channels of one row."""
    return Dropout(p, axes=1, unbatched=1)


def dropout2d(p: float) -> Noise:
    """Give the noise of ``F.dropout2d``."""
    return Dropout(p, axes=1)


def dropout3d(p: float) -> Noise:
    """Give the noise of ``F.dropout3d``, which takes (N, C, H, W) for the channels of one row."""
    return Dropout(p, axes=1, unbatched=3)


def feature_alpha_dropout(p: float) -> Noise:
    """Give the noise of ``F.feature_alpha_dropout``."""
    return AlphaDropout(p, axes=1)


def _torchvision(m: Any) -> Noise:
    return DropBlock(m.p, m.block_size, shared=False, variant="torchvision")


def _timm(m: Any) -> Noise | None:
    if m.with_noise or not hasattr(m, "couple_channels"):  # before timm 1.0.23: two other formulas
        return None
    p = (m.drop_prob or 0) * m.gamma_scale
    return DropBlock(p, m.block_size, m.couple_channels, "timm", m.scale_by_keep)


def _dropblock(m: Any) -> Noise:
    return DropBlock(float(m.drop_prob), m.block_size, shared=True, variant="dropblock")


_FORMULAS: dict[str, Callable[[Any], Noise | None]] = {
    "torch.nn.modules.dropout.Dropout": lambda m: Dropout(m.p),
    "torch.nn.modules.dropout.Dropout1d": lambda m: dropout1d(m.p),
    "torch.nn.modules.dropout.Dropout2d": lambda m: dropout2d(m.p),
    "torch.nn.modules.dropout.Dropout3d": lambda m: dropout3d(m.p),
    "torch.nn.modules.dropout.AlphaDropout": lambda m: AlphaDropout(m.p),
    "torch.nn.modules.dropout.FeatureAlphaDropout": lambda m: feature_alpha_dropout(m.p),
    "torchvision.ops.stochastic_depth.StochasticDepth": lambda m: Dropout(m.p, axes=0),
    "torchvision.ops.drop_block.DropBlock2d": _torchvision,
    "torchvision.ops.drop_block.DropBlock3d": _torchvision,
    "timm.layers.drop.DropPath": lambda m: Dropout(float(m.drop_prob or 0), 0, m.scale_by_keep),
    "timm.layers.drop.DropBlock2d": _timm,
    "dropblock.dropblock.DropBlock2D": _dropblock,
    "dropblock.dropblock.DropBlock3D": _dropblock,
    "latentood.models.dropblock.DropBlock": lambda m: DropBlock(m.p, m.block_size, m.shared),
}
_NAME = re.compile(r"(Dropout|DropPath|DropBlock|StochasticDepth)([123][dD])?$")


def noise_of(module: nn.Module) -> Noise | Unknown | None:
    """Give the noise of a module in training mode; ``None`` if it is not stochastic.

    A class that is not known counts as noise if it, or a class that it inherits from, is called
    like one, and it has no parameters and no noise inside.
    """
    classes = type(module).__mro__
    if not any(_NAME.search(cls.__name__) for cls in classes) or _probability(module) == 0:
        return None
    path = _path(next(cls for cls in classes if "forward" in vars(cls)))
    if path in _FORMULAS and (noise := _FORMULAS[path](module)):
        return noise
    inside = (part for part in module.modules() if part is not module)
    weighted = next(module.parameters(), None) is not None
    if weighted or any(noise_of(part) for part in inside):
        return None
    return Unknown(_path(type(module)))


def stochastic_modules(model: nn.Module) -> dict[str, Noise | Unknown]:
    """List the modules of a model that are noise in training mode."""
    return {name: noise for name, module in model.named_modules() if (noise := noise_of(module))}


def rerun(module: nn.Module, seeds: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Run a module in training mode on rows (B, …) one by one, torch's generator seeded for each.

    So a row gets the same noise in any batch, and what a library draws or counts over a batch is
    of the row alone. A GPU draws other noise than a CPU.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())), _in_training(module):
        rows = []
        for seed, row in zip(seeds.tolist(), x.split(1), strict=True):
            for generator in (torch.default_generator, *torch.cuda.default_generators):
                generator.manual_seed(seed)
            rows.append(module.forward(row, *args, **kwargs))
    return torch.cat(rows)


@contextmanager
def _in_training(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.train()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _probability(module: Any) -> float | None:
    """Read what a module drops, where it says so under a usual name."""
    for name in ("p", "drop_prob", "prob"):
        if hasattr(module, name):
            value = getattr(module, name) or 0
            return float(value) if isinstance(value, int | float) else None
    return None
