"""Forward hooks that carry the output of chosen layers out of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentood.errors import ModelError, suggest
from latentood.extraction.model.reductions import REDUCTIONS, Reduction
from latentood.latents import PENULTIMATE
from latentood.pipeline.schema import Layer


@dataclass(frozen=True)
class Tap:
    """One layer to capture.

    Attributes:
        layer: Name in the cache, e.g. ``layer3`` or ``relu#2`` or ``penultimate``.
        module: Dotted name of the module.
        call: Which of its calls in one forward, from 1; ``None`` where it must be the only.
        reduction: What to make of its output.
        of_input: Take what goes in (the penultimate features are the head's input).
    """

    layer: str
    module: str
    call: int | None
    reduction: Reduction
    of_input: bool = False


def make_taps(model: nn.Module, layers: Sequence[Layer], head: str | None) -> tuple[Tap, ...]:
    """Expand layer names and globs into taps.

    Args:
        model: The network.
        layers: As in the pipeline; ``name#2`` is the second call of a module.
        head: Name of the head, whose input is the layer ``penultimate``.

    Raises:
        ModelError: A name or glob matches no module (names the nearest), or ``penultimate`` is
            asked for and no head is known.
    """
    modules = [name for name, _ in model.named_modules() if name]
    taps: dict[str, Tap] = {}
    for layer in layers:
        how = REDUCTIONS.build(layer.reduction)
        if layer.name == PENULTIMATE:
            if head is None:
                raise ModelError(
                    "layer 'penultimate': no linear layer gives the logits of this model; "
                    "name the last linear layer with head: <module name>"
                )
            taps[PENULTIMATE] = Tap(PENULTIMATE, head, None, how, of_input=True)
            continue
        pattern, _, index = layer.name.partition("#")
        matches = matching(pattern, modules)
        if not matches:
            raise ModelError(
                f"layer {layer.name!r}: matches no module; {suggest(pattern, modules)}"
            )
        if index and not (index.isdigit() and int(index) >= 1):
            raise ModelError(
                f"layer {layer.name!r}: the call after # must be 1, 2, …, got {index!r}"
            )
        for name in matches:
            key = f"{name}#{index}" if index else name
            taps[key] = Tap(key, name, int(index) if index else None, how)
    return tuple(taps.values())


class Capture:
    """What the taps saw in one forward."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}

    def take(self, tap: Tap, value: Tensor) -> None:
        """Reduce and keep a value.

        Raises:
            ModelError: The reduction does not give the shape that it declares.
        """
        declared = tap.reduction.shape(tuple(value.shape[1:]))
        reduced = tap.reduction.apply(value)
        if tuple(reduced.shape) != (len(value), *declared):
            raise ModelError(
                f"layer {tap.layer!r}: reduction {tap.reduction.name} must give {declared} per "
                f"row, got {tuple(reduced.shape)} for {len(value)} rows; choose another reduction"
            )
        self.outputs[tap.layer] = reduced


@contextmanager
def capture(model: nn.Module, taps: Sequence[Tap]) -> Iterator[Capture]:
    """Hook the taps into a model; the hooks are gone afterwards, also after an exception."""
    seen = Capture()
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        by_module: dict[str, list[Tap]] = {}
        for tap in taps:
            by_module.setdefault(tap.module, []).append(tap)
        for name, group in by_module.items():
            handle = modules[name].register_forward_hook(_hook(seen, name, group))
            hooks.callback(handle.remove)
        yield seen


def _hook(seen: Capture, name: str, taps: Sequence[Tap]) -> Any:
    def take(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = seen.calls[name] = seen.calls.get(name, 0) + 1
        for tap in taps:
            if tap.call in (None, call):
                seen.take(tap, args[0] if tap.of_input else first_tensor(output, tap.layer))

    return take


def check_calls(taps: Sequence[Tap], calls: Mapping[str, int]) -> None:
    """Check that every tapped module ran as often as its tap expects.

    Raises:
        ModelError: A layer is never called, or several times without an index.
    """
    for tap in taps:
        count = calls.get(tap.module, 0)
        if count == 0:
            raise ModelError(
                f"layer {tap.layer!r}: is never called in the forward; remove it from layers:"
            )
        if tap.call is None and count > 1:
            options = ", ".join(f"{tap.module}#{i}" for i in range(1, min(count, 4) + 1))
            raise ModelError(
                f"layer {tap.layer!r}: its module is called {count} times per "
                f"forward; say which: {options}{', …' if count > 4 else ''}"
            )
        if tap.call is not None and tap.call > count:
            raise ModelError(
                f"layer {tap.layer!r}: its module is called {count} times per "
                f"forward, not {tap.call}"
            )


def first_tensor(output: Any, layer: str) -> Tensor:
    """Take the tensor a module gave, alone or as the first of a tuple.

    Raises:
        ModelError: There is none.
    """
    value = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(value, Tensor):
        raise ModelError(
            f"layer {layer!r}: must give a tensor, got {type(value).__name__}; "
            "tap a module inside it"
        )
    return value


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """List the names that a glob matches, in their own order.

    Args:
        pattern: ``layer*`` matches ``layer1`` but not ``layer1.0.conv1``; ``layer1.**`` matches
            everything inside ``layer1``; ``?`` is one character.
        names: Dotted names.
    """
    parts = [_PART.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern)]
    compiled = re.compile("".join(parts))
    return [name for name in names if compiled.fullmatch(name)]


_PART = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
