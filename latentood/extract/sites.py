"""Where a model is stochastic: its own dropout, or noise inserted behind a layer.

The model stays in eval mode throughout, so BatchNorm never moves and the model's dropout modules
are identities. A forward hook on each *site* applies the noise instead. One mechanism serves
existing and inserted noise, every engine, and ``vmap``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latentood.config import Insert, MonteCarlo
from latentood.errors import ModelError, suggest
from latentood.extract.noise import AlphaDropout, DropBlock, Dropout, Noise, mix

_CALLS = 1 << 16  # room for the calls of one site within a forward pass


@dataclass(frozen=True)
class Site:
    """A module whose output is disturbed.

    Attributes:
        module: Dotted name.
        number: Position among the sites; part of the random stream.
        noise: What to do to the output.
    """

    module: str
    number: int
    noise: Noise

    @property
    def stream(self) -> int:
        """Random stream of the first call."""
        return self.number * _CALLS


def _drop_block(module: Any) -> Noise:
    probability = float(getattr(module, "p", getattr(module, "drop_prob", 0.0)))
    # torchvision and timm draw one mask per channel, the `dropblock` package one for all.
    per_channel = type(module).__module__.partition(".")[0] in {"torchvision", "timm"}
    return DropBlock(
        probability, int(module.block_size), getattr(module, "shared", not per_channel)
    )


_NOISES: dict[str, Callable[[Any], Noise]] = {
    "Dropout": lambda m: Dropout(m.p),
    "Dropout1d": lambda m: Dropout(m.p, axes=1),
    "Dropout2d": lambda m: Dropout(m.p, axes=1),
    "Dropout3d": lambda m: Dropout(m.p, axes=1),
    "AlphaDropout": lambda m: AlphaDropout(m.p),
    "FeatureAlphaDropout": lambda m: AlphaDropout(m.p, axes=1),
    "StochasticDepth": lambda m: Dropout(m.p, axes=0),
    "DropPath": lambda m: Dropout(float(m.drop_prob or 0), 0, getattr(m, "scale_by_keep", True)),
    "DropBlock": _drop_block,
    "DropBlock2d": _drop_block,
    "DropBlock2D": _drop_block,
}


def noise_of(module: nn.Module) -> Noise | None:
    """Find what a module would do in training mode; ``None`` if it is not stochastic."""
    for cls in type(module).__mro__:
        if cls.__name__ in _NOISES:
            noise = _NOISES[cls.__name__](module)
            return noise if getattr(noise, "p", 0) > 0 else None
    return None


def find_sites(model: nn.Module, config: MonteCarlo) -> tuple[Site, ...]:
    """List the sites that a pipeline asks for.

    Raises:
        ModelError: A named module does not exist, or nothing stochastic is active.
    """
    chosen: list[tuple[str, Noise]] = []
    if config.activate:
        own = {name: noise for name, m in model.named_modules() if (noise := noise_of(m))}
        patterns = ["*"] if config.activate is True else config.activate
        for pattern in patterns:
            matches = fnmatch.filter(own, pattern)
            if not matches and config.activate is not True:
                raise ModelError(
                    f"monte_carlo.activate {pattern!r}: matches no stochastic module; "
                    f"{suggest(pattern, own)}"
                )
            chosen += [(name, own[name]) for name in matches if name not in dict(chosen)]
    if config.insert is not None:
        names = [name for name, _ in model.named_modules() if name]
        if config.insert.after not in names:
            raise ModelError(
                f"monte_carlo.insert.after {config.insert.after!r}: no such module; "
                f"{suggest(config.insert.after, names)}"
            )
        chosen.append((config.insert.after, _inserted(config.insert)))
    if not chosen:
        raise ModelError(
            "monte_carlo: nothing stochastic is active in this model, so all passes would "
            "be equal; add insert: {after: <layer>, kind: dropblock}"
        )
    return tuple(Site(name, number, noise) for number, (name, noise) in enumerate(chosen))


def _inserted(insert: Insert) -> Noise:
    if insert.kind == "dropblock":
        return DropBlock(insert.p, insert.block_size, insert.shared)
    return Dropout(insert.p, axes=1 if insert.kind == "dropout2d" else None)


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


@contextmanager
def noisy(model: nn.Module, sites: Sequence[Site], turn: Turn) -> Iterator[None]:
    """Apply the noises of one pass; the hooks are gone afterwards, also after an exception."""
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for site in sites:
            handle = modules[site.module].register_forward_hook(_hook(site, turn))
            hooks.callback(handle.remove)
        yield


def _hook(site: Site, turn: Turn) -> Any:
    def disturb(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ModelError(
                f"stochastic layer {site.module!r}: must give a tensor, got "
                f"{type(output).__name__}; choose a module inside it"
            )
        if isinstance(site.noise, DropBlock) and output.dim() != 4:
            raise ModelError(
                f"dropblock after {site.module!r}: needs maps (B, C, H, W), got "
                f"{tuple(output.shape)}; use kind: dropout"
            )
        call = turn.calls[site.number] = turn.calls.get(site.number, -1) + 1
        keys = _keys_for(output, turn.keys, site)
        return site.noise.apply(output, keys, turn.index, site.stream + call)

    return disturb


def _keys_for(output: Tensor, keys: Tensor, site: Site) -> Tensor:
    """Give each leading entry a key: one per row, or per part where rows were cut into windows."""
    parts, rest = divmod(output.shape[0], len(keys))
    if rest or parts == 0:
        raise ModelError(
            f"stochastic layer {site.module!r}: its output's first axis must be the "
            f"batch, got {tuple(output.shape)} for {len(keys)} rows"
        )
    if parts == 1:
        return keys
    spread = keys.repeat_interleave(parts) + torch.arange(len(output), device=keys.device) % parts
    return mix(spread)
