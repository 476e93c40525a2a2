"""What a model is made of, as it is seen to run: the order of its modules, axes, main stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
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
        return len(self.shape or ()) > 1

    @property
    def positions(self) -> Shape:
        """Axes behind the channels, where these come first."""
        return (self.shape or ())[1:]


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

    Layers that know their number of channels are compared with the axes of what they give. All
    others have the layout of what was given before them, unless the channels are seen to move.

    Args:
        seen: In the order in which they came.
    """
    last_names = set()
    before: Shape = ()
    last = False
    for one in seen:
        if one.shape is None or len(one.shape) < 3:
            continue
        last = _is_last(one.module, one.shape, before, last)
        before = one.shape
        if last:
            last_names.add(one.name)
        else:
            last_names.discard(one.name)
    return frozenset(last_names)


def _is_last(module: nn.Module, shape: Shape, before: Shape, was_last: bool) -> bool:
    if isinstance(module, _ConvNd | _BatchNorm | nn.GroupNorm):
        return False
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.LayerNorm):
        ends = [shape[axis] == module.normalized_shape[-1] for axis in (0, -1)]
        if sum(ends) == 1:
            return ends[1]
    if before and prod(shape) == prod(before):  # the same values, perhaps with axes moved
        channels = before[-1 if was_last else 0]
        ends = [shape[axis] == channels for axis in (0, -1)]
        if sum(ends) == 1:  # as many positions as channels hide it
            return ends[1]
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
    calls = Counter(one.name for one in seen)
    tree = [one for one in seen if calls[one.name] == 1]
    parts = _parts(tree, "")
    while len(big := [part for part in parts if _is_big(tree, part)]) == 1:
        inside = _parts(tree, big[0].name)
        if not any(part.is_map for part in inside):
            break
        parts = inside
    if not big:
        layers = [part for part in parts if part.is_map and prod(part.positions) > 1]
        return [list(run)[-1] for _, run in groupby(layers, key=lambda part: part.positions)]
    stages = [part for part in big if part.is_map]
    runs = [list(run) for _, run in groupby(stages, key=lambda part: part.shape)]
    if len(runs) > 1:
        return [run[-1] for run in runs]
    count = min(SPREAD, len(stages))
    return [stages[(place + 1) * len(stages) // count - 1] for place in range(count)]


def _parts(tree: Sequence[Output], name: str) -> list[Output]:
    """List what a module calls itself, looking through the lists it keeps its parts in."""
    called = {one.name for one in tree}
    return [one for one in tree if one.name and _caller(one.name, called) == name]


def _caller(name: str, called: Collection[str]) -> str:
    while name:
        name = name.rpartition(".")[0]
        if name in called:
            return name
    return name


def _is_big(tree: Sequence[Output], part: Output) -> bool:
    """Tell whether a part has several weights, and works on maps or tokens."""
    weights = sum(isinstance(module, nn.Linear | _ConvNd) for module in part.module.modules())
    inside = (one for one in tree if f"{one.name}.".startswith(f"{part.name}."))
    return weights > 1 and any(one.is_map for one in inside)


def reads_first_token(model: nn.Module, tokens: str, head: str, batch: Tensor) -> bool:
    """Tell whether the head of a model is given the first of its tokens alone.

    That is seen and not believed: the features of all others are moved about.

    Args:
        model: In eval mode.
        tokens: Name of the last module that gives tokens (B, L, D).
        head: Name of the head.
        batch: A few inputs.
    """
    given: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        given.append(args[0])

    def disturb(module: nn.Module, args: Any, out: Any) -> Any:
        value, *rest = out if isinstance(out, tuple | list) else (out,)
        moved = torch.cat([value[:, :1], value[:, 1:].roll(1, dims=-1)], dim=1)
        return (moved, *rest) if rest else moved

    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(model.get_submodule(head).register_forward_pre_hook(note).remove)
        model(batch)
        hooks.callback(model.get_submodule(tokens).register_forward_hook(disturb).remove)
        model(batch)
    return torch.allclose(given[0], given[-1], rtol=1e-4, atol=1e-6)
