"""Forward hooks that carry the output of chosen layers out of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from latentood.errors import ModelError, suggest
from latentood.extraction.model.reductions import REDUCTIONS, Reduction
from latentood.latents import PENULTIMATE, Key
from latentood.latents.key import NETWORK, Unit
from latentood.models.heads import ATTACHED, KINDS, UncertaintyHead
from latentood.pipeline.schema import Layer


@dataclass(frozen=True)
class Tap:
    """One layer to capture."""

    layer: str  # name in the cache, e.g. layer3 or relu#2 or penultimate
    module: str  # dotted name
    call: int | None  # which call in one forward, from 1; None where it must be the only one
    reduction: Reduction
    of_input: bool = False  # take the input: the penultimate features are that of the head
    field: str = ""  # of a prediction: what a head with an uncertainty of its own gives

    def value(self, args: tuple[Any, ...], output: Any) -> Tensor:
        """Take what is captured out of the input and the output of the module."""
        if self.field:
            return getattr(output, self.field)  # type: ignore[no-any-return]
        return args[0] if self.of_input else first_tensor(output, self.layer)


def make_taps(model: nn.Module, layers: Sequence[Layer], head: str | None) -> tuple[Tap, ...]:
    """Expand the layer names and globs of a pipeline into taps; ``name#2`` is a second call.

    Raises:
        ModelError: A name or glob matches no module (names the nearest), or ``penultimate`` is
            asked for and no head is known.
    """
    modules = [name for name, _ in model.named_modules() if name]
    taps = {tap.layer: tap for tap in _of_predictions(model)}
    for layer in layers:
        how = REDUCTIONS.build(layer.reduction)
        if layer.name == PENULTIMATE:
            if head is None and ATTACHED in modules:
                head = ATTACHED  # which makes the logits of what it gets: latent vectors
            if head is None:
                raise ModelError(
                    "layer 'penultimate': no linear layer (of segmenters: no 1×1 convolution) "
                    "gives the logits of this model; remove it from layers:, or name the last "
                    "linear layer with head: <module name>"
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


def _of_predictions(model: nn.Module) -> Iterator[Tap]:
    """Tap what the head of a network gives beside the logits; its layers are named by keys."""
    head = getattr(model, ATTACHED, None)
    if isinstance(head, UncertaintyHead):
        for field in head.gives:
            key = Key(KINDS[field], NETWORK)
            yield Tap(key, ATTACHED, None, REDUCTIONS.build("mean"), field=field)


def key_of(layer: str) -> Key:
    """Name the array of a layer's output; of cells and of a head, a layer is named by its key."""
    return layer if isinstance(layer, Key) else Key("features", layer)


def pass_key(kind: str, layer: str) -> Key:
    """Name an array about the passes of a layer, or of the logits, of the same unit."""
    key = key_of(layer)
    return Key(kind, key.layer, key.unit)


def with_members(taps: Sequence[Tap], unit: Unit, how: Reduction) -> tuple[Tap, ...]:
    """Capture layers for the members of images as well, under keys of their unit."""
    layers = (tap for tap in taps if key_of(tap.layer).kind == "features")
    return (
        *taps,
        *(replace(t, layer=Key("features", t.layer, unit), reduction=how) for t in layers),
    )


class Capture:
    """The outputs that the taps captured in one forward, and how often their modules ran."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}

    def take(self, tap: Tap, value: Tensor) -> None:
        """Reduce and keep a value; the reduction must give the shape that it declares."""
        try:
            declared = tap.reduction.shape(tuple(value.shape[1:]))
        except ModelError as error:
            raise ModelError(f"layer {key_of(tap.layer).layer!r}: {error}") from None
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
    captured = Capture()
    with ExitStack() as hooks:
        for name in dict.fromkeys(tap.module for tap in taps):
            hook = _hook(captured, name, [tap for tap in taps if tap.module == name])
            hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
        yield captured


def capture_until(
    model: nn.Module, taps: Sequence[Tap], run: Callable[[], object]
) -> dict[str, Tensor]:
    """Run a model until all taps have captured something; what would follow is left out."""

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        if len(captured.outputs) == len(taps):
            raise _EnoughError

    with ExitStack() as hooks:
        captured = hooks.enter_context(capture(model, taps))
        for name in {tap.module for tap in taps}:
            hooks.enter_context(model.get_submodule(name).register_forward_hook(stop))
        hooks.enter_context(suppress(_EnoughError))
        run()
    return captured.outputs


class _EnoughError(Exception):
    """All that is wanted of a forward is there."""


def _hook(captured: Capture, name: str, taps: Sequence[Tap]) -> Any:
    def take(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = captured.calls[name] = captured.calls.get(name, 0) + 1
        for tap in taps:
            if tap.call in (None, call):
                captured.take(tap, tap.value(args, output))

    return take


def check_calls(taps: Sequence[Tap], calls: Mapping[str, int]) -> None:
    """Check that every tapped module ran, and once only where its tap has no index."""
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
                f"layer {tap.layer!r}: its module is called {count} times per forward, "
                f"not {tap.call}"
            )


def first_tensor(output: Any, layer: str) -> Tensor:
    """Take the output of a module: a tensor alone, or the first of a tuple."""
    value = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(value, Tensor):
        raise ModelError(
            f"layer {layer!r}: must give a tensor, got {type(value).__name__}; "
            "tap a module inside it"
        )
    return value


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """List the names that a glob matches, in their own order.

    ``layer*`` matches ``layer1`` but not ``layer1.0.conv1``; ``layer1.**`` matches everything
    inside ``layer1``; ``?`` is one character.
    """
    parts = [_PART.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern)]
    compiled = re.compile("".join(parts))
    return [name for name in names if compiled.fullmatch(name)]


_PART = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
