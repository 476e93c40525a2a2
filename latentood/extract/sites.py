"""Where noise acts on a model, and one noisy pass through it.

The model stays in eval mode throughout, so BatchNorm never moves and the model's own dropout is
the identity. A *site* applies the noise instead: a hook on a module, or a watch over the calls
of ``F.dropout`` and its kin. One mechanism serves existing and inserted noise, every engine, and
``vmap``.
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

from latentood.errors import ModelError
from latentood.extract.noise import AlphaDropout, DropBlock, Dropout, Noise, mix

_CALLS = 1 << 16  # room for the calls of one site within a forward pass

_FUNCTIONS: dict[Any, Callable[[float], Noise]] = {
    F.dropout: Dropout,
    F.dropout1d: lambda p: Dropout(p, axes=1),
    F.dropout2d: lambda p: Dropout(p, axes=1),
    F.dropout3d: lambda p: Dropout(p, axes=1),
    F.alpha_dropout: AlphaDropout,
    F.feature_alpha_dropout: lambda p: AlphaDropout(p, axes=1),
}


@dataclass
class Turn:
    """One stochastic pass over one batch.

    Attributes:
        keys: (B,) row keys.
        index: Which pass; a scalar, possibly mapped by ``vmap``.
        calls: How often each site has run in this pass.
    """

    keys: Tensor
    index: Tensor
    calls: dict[int, int] = field(default_factory=dict)

    def disturb(self, x: Tensor, noise: Noise, site: Site) -> Tensor:
        """Apply a noise to activations whose leading axis is the batch.

        Raises:
            ModelError: The shape does not fit the noise or the batch.
        """
        if isinstance(noise, DropBlock) and x.dim() != 4:
            raise ModelError(
                f"dropblock at {site.where}: needs maps (B, C, H, W), got {tuple(x.shape)}; "
                "use kind: dropout"
            )
        call = self.calls[site.number] = self.calls.get(site.number, -1) + 1
        return noise.apply(x, self._keys_for(x, site), self.index, site.stream + call)

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
    """A place where noise acts.

    Attributes:
        number: Position among the sites; part of the random stream.
    """

    number: int

    @property
    def stream(self) -> int:
        """Random stream of the first call."""
        return self.number * _CALLS

    @property
    @abstractmethod
    def where(self) -> str:
        """Name the place for people."""

    @abstractmethod
    def attach(self, model: nn.Module, turn: Turn) -> AbstractContextManager[object]:
        """Disturb what passes here, until the context ends."""


@dataclass(frozen=True)
class ModuleSite(Site):
    """The output of a module.

    Attributes:
        module: Dotted name.
        noise: What to do to the output.
    """

    module: str
    noise: Noise

    @property
    def where(self) -> str:
        """Name the place for people."""
        return repr(self.module)

    @contextmanager
    def attach(self, model: nn.Module, turn: Turn) -> Iterator[None]:
        """Hook the module."""

        def disturb(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"noise at {self.where}: the module must give a tensor, got "
                    f"{type(output).__name__}; choose a module inside it"
                )
            return turn.disturb(output, self.noise, self)

        handle = model.get_submodule(self.module).register_forward_hook(disturb)
        try:
            yield
        finally:
            handle.remove()


@dataclass(frozen=True)
class FunctionalSite(Site):
    """Every call of ``F.dropout`` and its kin, by modules or in a ``forward``, in order."""

    @property
    def where(self) -> str:
        """Name the place for people."""
        return "the calls of F.dropout"

    def attach(self, model: nn.Module, turn: Turn) -> AbstractContextManager[object]:
        """Watch the calls."""
        return _Watch(lambda x, noise: turn.disturb(x, noise, self))


class _Watch(TorchFunctionMode):
    """Answer every call of a dropout function with p > 0, whatever its ``training`` says.

    Attention's own dropout inside ``scaled_dot_product_attention`` cannot be seen from here.
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
    """Count the calls of dropout functions in a forward pass.

    Args:
        model: In eval mode.
        batch: A few inputs.
        within_modules: Count those that dropout modules make, too.
    """
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
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    stack.callback(module.register_forward_pre_hook(enter).remove)
                    stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(_Watch(see))
        model(batch)
    return calls


@contextmanager
def noisy(model: nn.Module, sites: Sequence[Site], turn: Turn) -> Iterator[None]:
    """Apply the noises of one pass; all is as before afterwards, also after an exception."""
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(site.attach(model, turn))
        yield
