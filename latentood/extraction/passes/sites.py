"""Where noise acts on a model, and one stochastic pass.

The model stays in eval mode throughout, so BatchNorm never moves and the model's own dropout is
the identity. A *site* applies the noise instead: a hook on a module, or a hook on the calls of
``F.dropout`` and its variants. Existing and inserted noise, all engines and ``vmap`` use the same
sites.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentood.errors import ModelError, suggest
from latentood.extraction.model.taps import matching
from latentood.extraction.passes.modules import (
    Unknown,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
    noise_of,
    rerun,
    stochastic_modules,
)
from latentood.extraction.passes.noise import (
    AlphaDropout,
    DropBlock,
    Dropout,
    Noise,
    mix,
    streams,
)
from latentood.pipeline.schema import Insert, MonteCarlo

_CALLS = 1 << 16  # room for the calls of one site within a forward

_FUNCTIONS: dict[Any, Callable[[float], Noise]] = {
    F.dropout: Dropout,
    F.dropout1d: dropout1d,
    F.dropout2d: dropout2d,
    F.dropout3d: dropout3d,
    F.alpha_dropout: AlphaDropout,
    F.feature_alpha_dropout: feature_alpha_dropout,
}


@dataclass
class Pass:
    """One stochastic pass over one batch."""

    keys: Tensor  # (B,) row keys
    index: Tensor  # which pass; a scalar, possibly mapped by vmap
    calls: dict[int, int] = field(default_factory=dict)  # site → runs of it in this pass

    def disturb(self, x: Tensor, noise: Noise, site: Site) -> Tensor:
        """Apply a noise to activations whose leading axis is the batch."""
        if isinstance(noise, DropBlock) and x.dim() not in (4, 5):
            raise ModelError(
                f"dropblock at {site.where}: needs maps (B, C, H, W) or (B, C, D, H, W), got "
                f"{tuple(x.shape)}; use kind: dropout"
            )
        return noise.apply(x, self._keys_for(x, site), self.index, self._stream(site))

    def seeds(self, x: Tensor, site: Site) -> Tensor:
        """Give every leading entry of x (B, …) a seed for this call of a site: (B,) int64."""
        return streams(self._keys_for(x, site), self.index, self._stream(site))

    def _stream(self, site: Site) -> int:
        call = self.calls[site.number] = self.calls.get(site.number, -1) + 1
        return site.stream + call

    def _keys_for(self, x: Tensor, site: Site) -> Tensor:
        """Give each leading entry a key: one per row, or per part where rows were cut up."""
        parts, rest = divmod(x.shape[0], len(self.keys))
        if rest or parts == 0:
            raise ModelError(
                f"noise at {site.where}: the first axis must be the batch, got "
                f"{tuple(x.shape)} for {len(self.keys)} rows; choose another layer"
            )
        if parts == 1:
            return self.keys
        part = torch.arange(len(x), device=x.device) % parts
        return mix(self.keys.repeat_interleave(parts) + part)


@dataclass(frozen=True)
class Site(ABC):
    """A place where noise acts."""

    number: int  # position among the sites; part of the random stream

    @property
    def stream(self) -> int:
        """Random stream of the first call."""
        return self.number * _CALLS

    @property
    def mark(self) -> str | None:
        """Name the noise in the fingerprint, where the first caches have other masks of it."""
        return None

    @property
    @abstractmethod
    def where(self) -> str:
        """Name the place in messages."""

    @abstractmethod
    def attach(self, model: nn.Module, one: Pass) -> AbstractContextManager[object]:
        """Apply the noise until the context ends."""


@dataclass(frozen=True)
class OfModule(Site):
    """A module."""

    module: str  # dotted name

    @property
    def where(self) -> str:
        """Name the place in messages."""
        return repr(self.module)

    def checked(self, output: object) -> Tensor:
        """Check that the module gave a tensor."""
        if not isinstance(output, Tensor):
            raise ModelError(
                f"noise at {self.where}: the module must give a tensor, got "
                f"{type(output).__name__}; choose a module inside it"
            )
        return output


@dataclass(frozen=True)
class ModuleSite(OfModule):
    """The output of a module."""

    noise: Noise  # acts on the output

    @property
    def mark(self) -> str | None:
        """Name libraries' own variants of DropBlock."""
        own = isinstance(self.noise, DropBlock) and self.noise.variant in ("timm", "dropblock")
        return f"{self.module}: {self.noise}" if own else None

    def attach(self, model: nn.Module, one: Pass) -> AbstractContextManager[object]:
        """Hook the module."""

        def disturb(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
            return one.disturb(self.checked(output), self.noise, self)

        return model.get_submodule(self.module).register_forward_hook(disturb)


@dataclass(frozen=True)
class RerunSite(OfModule):
    """A module with noise of its own, which is run in training mode instead."""

    noise: Unknown

    @property
    def mark(self) -> str:
        """Name the class."""
        return f"{self.module}: {self.noise.kind}"

    def attach(self, model: nn.Module, one: Pass) -> AbstractContextManager[object]:
        """Hook the module."""

        def replace(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor:
            self.checked(output)
            if not args or not isinstance(args[0], Tensor):
                raise ModelError(
                    f"noise at {self.where}: the first argument of a {self.noise.kind} must be a "
                    "tensor (B, …); switch on other modules by monte_carlo.activate: [NAME, …]"
                )
            return rerun(module, one.seeds(args[0], self), *args, **kwargs)

        return model.get_submodule(self.module).register_forward_hook(replace, with_kwargs=True)


@dataclass(frozen=True)
class FunctionalSite(Site):
    """Every call of ``F.dropout`` or a variant, by modules or in a ``forward``, in order."""

    @property
    def where(self) -> str:
        """Name the place in messages."""
        return "the calls of F.dropout"

    def attach(self, model: nn.Module, one: Pass) -> AbstractContextManager[object]:
        """Watch the calls."""
        return _Watch(lambda x, noise: one.disturb(x, noise, self))


class _Watch(TorchFunctionMode):
    """Replace every call of a dropout function with p > 0, whatever its ``training`` is.

    Dropout inside ``scaled_dot_product_attention`` makes no such call.
    """

    def __init__(self, answer: Callable[[Tensor, Noise], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FUNCTIONS:
            given = inspect.signature(func).bind(*args, **kwargs)
            given.apply_defaults()
            if given.arguments["p"] > 0:
                x = given.arguments["input"]
                return self.answer(x, _FUNCTIONS[func](given.arguments["p"]))
        return func(*args, **kwargs)


def count_functional_calls(model: nn.Module, batch: Tensor, *, within_modules: bool = False) -> int:
    """Count the calls of dropout functions in a forward, optionally within dropout modules too."""
    depth, calls = 0, 0

    def enter(module: nn.Module, args: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1

    def see(x: Tensor, noise: Noise) -> Tensor:
        nonlocal calls
        calls += depth == 0
        return x

    with ExitStack() as stack:
        if not within_modules:
            for module in model.modules():
                if noise_of(module):
                    stack.callback(module.register_forward_pre_hook(enter).remove)
                    stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(_Watch(see))
        model(batch)
    return calls


@contextmanager
def noisy(model: nn.Module, sites: Sequence[Site], one: Pass) -> Iterator[None]:
    """Apply the noises of one pass until the context ends."""
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(site.attach(model, one))
        yield


def find_sites(model: nn.Module, config: MonteCarlo, batch: Tensor) -> tuple[Site, ...]:
    """List the sites that a pipeline asks for.

    Raises:
        ModelError: A named module does not exist, nothing stochastic is active, or the forward
            calls dropout functions that the pipeline's mode does not reach.
    """
    sites: list[Site] = []
    if config.activate == "functional":
        if count_functional_calls(model, batch, within_modules=True):
            sites.append(FunctionalSite(0))
    elif config.activate and config.activate != "members":
        sites += _own_modules(model, config.activate)
        if config.activate is True and (calls := count_functional_calls(model, batch)):
            raise ModelError(
                f"monte_carlo.activate: the forward calls F.dropout {calls} times outside "
                "dropout modules, which activate: true leaves off; use activate: functional, or "
                "name the modules to switch on"
            )
    if config.insert is not None:
        names = [name for name, _ in model.named_modules() if name]
        if config.insert.after not in names:
            raise ModelError(
                f"monte_carlo.insert.after {config.insert.after!r}: no such module; "
                f"{suggest(config.insert.after, names)}"
            )
        sites.append(ModuleSite(len(sites), config.insert.after, _inserted(config.insert)))
    if not sites:
        raise ModelError(
            "monte_carlo: nothing stochastic is active in this model, so all passes would "
            "be equal; add insert: {after: <layer>, kind: dropblock}"
        )
    return tuple(sites)


def _own_modules(model: nn.Module, activate: bool | list[str]) -> list[Site]:
    own = stochastic_modules(model)
    if activate is True:
        chosen = list(own)
    else:
        chosen = []
        for pattern in activate or ():
            matches = matching(pattern, own)
            if not matches:
                raise ModelError(
                    f"monte_carlo.activate {pattern!r}: matches no stochastic module; "
                    f"{suggest(pattern, own)}"
                )
            chosen += [name for name in matches if name not in chosen]
    return [_site(number, name, own[name]) for number, name in enumerate(chosen)]


def _site(number: int, name: str, noise: Noise | Unknown) -> Site:
    if isinstance(noise, Unknown):
        return RerunSite(number, name, noise)
    return ModuleSite(number, name, noise)


def _inserted(insert: Insert) -> Noise:
    if insert.kind == "dropblock":
        return DropBlock(insert.p, insert.block_size, insert.shared)
    return Dropout(insert.p, axes=1 if insert.kind == "dropout2d" else None)
