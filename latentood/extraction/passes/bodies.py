"""Run all passes through one part of a model, its body, while the rest of it runs once.

A body holds all noise. The pass without noise goes through it as one more, and the model goes on
with what that one gave, so that nothing deterministic is computed twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from latentood.errors import ModelError
from latentood.extraction.model.taps import Tap, capture
from latentood.extraction.passes.noise import OFF
from latentood.extraction.passes.norms import FrozenNorms
from latentood.extraction.passes.sites import OfModule, Pass, Site, noisy

Result = TypeVar("Result")


@dataclass
class Multiplied:
    """What a body gave in all passes, the one without noise first."""

    output: Any  # (1 + T, B, …) of every tensor in it
    layers: dict[str, Tensor]  # layer → (1 + T, B, …)

    @property
    def quiet(self) -> dict[str, Tensor]:
        """The layers in the pass without noise."""
        return {name: values[0] for name, values in self.layers.items()}

    @property
    def passes(self) -> dict[str, Tensor]:
        """The layers in the T passes: (B, T, …)."""
        return {name: values[1:].transpose(0, 1) for name, values in self.layers.items()}

    def of_pass(self, index: int) -> Any:
        """Give the output in one pass; 0 is that without noise."""
        return tree_map(lambda values: values[index], self.output)


@dataclass(frozen=True)
class Body:
    """A module of a model that holds all its noise."""

    model: nn.Module
    name: str
    sites: Sequence[Site]
    passes: int  # T

    def holds(self, tap: Tap) -> bool:
        """Whether the layer of a tap is the body, or in it."""
        return self.contains(tap.module)

    def contains(self, module: str) -> bool:
        """Whether a module is the body, or in it."""
        return f"{module}.".startswith(f"{self.name}.")

    def split(self, taps: Sequence[Tap]) -> tuple[list[Tap], list[Tap]]:
        """Separate the taps of layers in the body from the others."""
        inside = [tap for tap in taps if self.holds(tap)]
        return inside, [tap for tap in taps if tap not in inside]

    def run(
        self, taps: Sequence[Tap], keys: Tensor, call: Callable[[], Result]
    ) -> tuple[Multiplied, Result]:
        """Call the model, all passes in the body; the call goes on with the one without noise.

        Args:
            taps: Layers of the body to capture.
            keys: (B,) row keys of the noise.
            call: Runs the model.

        Returns:
            What the body gave, and what the call did.

        Raises:
            ModelError: The body does not run once.
        """
        body = self.model.get_submodule(self.name)
        given: list[Multiplied] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            with _forward(body, cast("Any", type(body)).forward.__get__(body)):
                given.append(Multiplied(*self._every_pass(body, taps, keys, args, kwargs)))
            return given[-1].of_pass(0)

        with _forward(body, forward):
            result = call()
        if len(given) != 1:
            raise ModelError(
                f"passes: {self.name!r} must run once in a forward, got {len(given)} times; name "
                "layers outside it"
            )
        return given[0], result

    def replay(self, multiplied: Multiplied, index: int, call: Callable[[], Any]) -> Any:
        """Call the model with what the body gave in one pass in its place; 0 has no noise."""
        body = self.model.get_submodule(self.name)
        with _forward(body, lambda *args, **kwargs: multiplied.of_pass(index)):
            return call()

    def _every_pass(
        self, body: nn.Module, taps: Sequence[Tap], keys: Tensor, args: Any, kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        def one(index: Tensor) -> tuple[Any, dict[str, Tensor]]:
            with (
                noisy(self.model, self.sites, Pass(keys, index)),  # before what it disturbs
                capture(self.model, taps) as captured,
            ):
                output = body(*args, **kwargs)
            return output, captured.outputs

        with batched():
            return torch.func.vmap(one)(torch.arange(OFF, self.passes, device=keys.device))


@contextmanager
def batched() -> Iterator[None]:
    """Run operations under ``vmap``."""
    with warnings.catch_warnings(), FrozenNorms():
        # Operations without a batching rule run in a loop: slower, but right.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def holders(sites: Sequence[Site]) -> Iterator[str]:
    """Name the modules that hold all sites, the largest first; the model itself is none."""
    if not all(isinstance(site, OfModule) for site in sites):
        return
    shared = []
    names = [cast("OfModule", site).module.split(".") for site in sites]
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            return
        shared.append(parts[0])
        yield ".".join(shared)


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module do something else when it is called."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
