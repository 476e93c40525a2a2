"""What a model is made of, as it is seen to run: the order of its modules, axes, main stages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

Shape = tuple[int, ...]
SPREAD = 4  # stages to keep of a network whose stages all have the same shape


@dataclass(frozen=True)
class Output:
    """What a module gave in one of its calls.

    Attributes:
        name: Dotted name of the module; empty for the model itself.
        module: The module.
        shape: Shape of the output for one row; ``None`` if it is no tensor with a row per input.
    """

    name: str
    module: nn.Module
    shape: Shape | None

    @property
    def is_map(self) -> bool:
        """Whether there are positions or tokens in it."""
        return self.shape is not None and len(self.shape) > 1


def watch(model: nn.Module, batch: Tensor) -> list[Output]:
    """Run a batch and list all outputs of all modules, in the order in which they came."""
    seen: list[Output] = []
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():

            def see(m: nn.Module, args: Any, out: Any, name: str = name) -> None:
                value = out[0] if isinstance(out, tuple | list) and out else out
                by_row = isinstance(value, Tensor) and value.shape[:1] == batch.shape[:1]
                seen.append(Output(name, m, tuple(value.shape[1:]) if by_row else None))

            hooks.callback(module.register_forward_hook(see).remove)
        model(batch)
    return seen


def channels_last(seen: Sequence[Output]) -> frozenset[str]:
    """Find the modules whose maps are (…, C) and not (C, …).

    Layers that know their number of channels are compared with the axes of what they give; all
    others have the layout of what was given before them, unless the axes are seen to be permuted.

    Args:
        seen: In the order in which they came.
    """
    found = set()
    before: Shape = ()
    last = False
    for one in seen:
        if one.shape is None or len(one.shape) < 3:
            continue
        last = _is_last(one.module, one.shape, before, last)
        before = one.shape
        if last:
            found.add(one.name)
        else:
            found.discard(one.name)
    return frozenset(found)


def _is_last(module: nn.Module, shape: Shape, before: Shape, was_last: bool) -> bool:
    if isinstance(module, _ConvNd | _BatchNorm | nn.GroupNorm):
        return False
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.LayerNorm):
        ends = [shape[axis] == module.normalized_shape[-1] for axis in (0, -1)]
        if sum(ends) == 1:
            return ends[1]
    if shape != before:  # a square of as many positions as channels hides its permutation
        if was_last and shape == (*before[-1:], *before[:-1]):
            return False
        if not was_last and shape == (*before[1:], *before[:1]):
            return True
    return was_last


def find_stages(seen: Sequence[Output]) -> list[Output]:
    """Choose the outputs that stand for the main stages of a model.

    Going down from the model as long as one part does nearly all the work, the parts side by side
    there are its stages, such as ``layer1`` … ``layer4`` or the blocks of an encoder. Of those in
    a row with the same shape the last is chosen; if all have the same, up to four of them, evenly
    spaced. Where parts are single layers, it is the last of each resolution.

    Args:
        seen: In the order in which they came.
    """
    calls = [one.name for one in seen]
    tree = [one for one in seen if calls.count(one.name) == 1]
    parts = _parts(tree, "")
    while len(big := [part for part in parts if _is_big(tree, part)]) == 1:
        inside = _parts(tree, big[0].name)
        if not any(part.is_map for part in inside):
            break
        parts = inside
    if not big:
        layers = [part for part in parts if part.is_map and prod((part.shape or ())[1:]) > 1]
        return [part for part, after in _with_next(layers) if _resolution(part, after)]
    stages = [part for part in big if part.is_map]
    runs = [list(run) for _, run in groupby(stages, key=lambda part: part.shape)]
    if len(runs) == 1:
        count = min(SPREAD, len(stages))
        return [stages[(place + 1) * len(stages) // count - 1] for place in range(count)]
    return [run[-1] for run in runs]
