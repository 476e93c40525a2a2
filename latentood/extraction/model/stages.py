"""The structure of a model in a forward: the order of its modules, axes and main stages."""

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
    """The output of a module in one of its calls."""

    name: str  # dotted name of the module; empty for the model itself
    module: nn.Module
    shape: Shape | None  # for one row; None if it is no tensor with a row per input

    @property
    def is_map(self) -> bool:
        """Whether there are positions or tokens in it."""
        return len(self.shape or ()) > 1

    @property
    def positions(self) -> Shape:
        """Axes behind the channels, where these come first."""
        return (self.shape or ())[1:]


def watch(model: nn.Module, batch: Tensor) -> list[Output]:
    """Run a batch and list all outputs of all modules, in order."""
    outputs: list[Output] = []
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():

            def see(m: nn.Module, args: Any, out: Any, name: str = name) -> None:
                value = out[0] if isinstance(out, tuple | list) and out else out
                by_row = isinstance(value, Tensor) and value.shape[:1] == (len(batch),)
                outputs.append(Output(name, m, tuple(value.shape[1:]) if by_row else None))

            hooks.callback(module.register_forward_hook(see).remove)
        model(batch)
    return outputs


def channels_last(outputs: Sequence[Output]) -> frozenset[str]:
    """Find the modules whose maps are (…, C) and not (C, …).

    Layers with a number of channels are compared with the axes of their output. All others have
    the layout of the output before theirs, unless the channels move between them.
    """
    last_names = set()
    before: Shape = ()
    last = False
    for one in outputs:
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


def find_stages(outputs: Sequence[Output]) -> list[Output]:
    """Choose the outputs that stand for the main stages of a model.

    The stages are the parts side by side on the first level that has several large ones, such as
    ``layer1`` … ``layer4`` or the blocks of an encoder. Of those in a row with the same shape the
    last is chosen; if all have the same, up to four of them, evenly spaced. Where parts are single
    layers, it is the last of each resolution.
    """
    calls = Counter(one.name for one in outputs)
    tree = [one for one in outputs if calls[one.name] == 1]
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
    """List the parts that a module calls itself, also those in lists of modules."""
    called = {one.name for one in tree}
    return [one for one in tree if one.name and _caller(one.name, called) == name]


def _caller(name: str, called: Collection[str]) -> str:
    while name:
        name = name.rpartition(".")[0]
        if name in called:
            return name
    return name


def _is_big(tree: Sequence[Output], part: Output) -> bool:
    """Test whether a part has several weights, and works on maps or tokens."""
    weights = sum(isinstance(module, nn.Linear | _ConvNd) for module in part.module.modules())
    inside = (one for one in tree if f"{one.name}.".startswith(f"{part.name}."))
    return weights > 1 and any(one.is_map for one in inside)


def reads_first_token(model: nn.Module, tokens: str, head: str, batch: Tensor) -> bool:
    """Test whether the head of a model reads the first of its tokens alone.

    The features of all other tokens are moved, and the input of the head is compared.
    ``tokens`` names the last module that gives tokens (B, L, D).
    """
    given: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        given.append(args[0])

    def disturb(module: nn.Module, args: Any, out: Any) -> Any:
        value, *rest = out if isinstance(out, tuple | list) else (out,)
        moved = torch.cat([value[:, :1], value[:, 1:].roll(1, dims=-1)], dim=1)
        return (moved, *rest) if rest else moved

    with torch.no_grad(), model.get_submodule(head).register_forward_pre_hook(note):
        model(batch)
        with model.get_submodule(tokens).register_forward_hook(disturb):
            model(batch)
    return torch.allclose(given[0], given[-1], rtol=1e-4, atol=1e-6)
