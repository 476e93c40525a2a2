"""Find where a model is stochastic: its own modules, calls of F.dropout, what is inserted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from latentood.config import Insert, MonteCarlo
from latentood.errors import ModelError, suggest
from latentood.extract.noise import AlphaDropout, DropBlock, Dropout, Noise
from latentood.extract.patterns import matching
from latentood.extract.sites import FunctionalSite, ModuleSite, Site, count_functional_calls


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


def find_sites(model: nn.Module, config: MonteCarlo, batch: Tensor) -> tuple[Site, ...]:
    """List the sites that a pipeline asks for.

    Args:
        model: In eval mode.
        config: What is asked for.
        batch: A few inputs, to see which functional dropout the forward pass calls.

    Raises:
        ModelError: A named module does not exist, nothing stochastic is active, or the forward
            pass calls dropout functions that the pipeline's mode does not reach.
    """
    sites: list[Site] = []
    if config.activate == "functional":
        if count_functional_calls(model, batch, within_modules=True):
            sites.append(FunctionalSite(0))
    elif config.activate:
        sites += _own_modules(model, config.activate)
        if config.activate is True and (calls := count_functional_calls(model, batch)):
            raise ModelError(
                f"monte_carlo.activate: the forward pass calls F.dropout {calls} times outside "
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
    own = {name: noise for name, module in model.named_modules() if (noise := noise_of(module))}
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
    return [ModuleSite(number, name, own[name]) for number, name in enumerate(chosen)]


def _inserted(insert: Insert) -> Noise:
    if insert.kind == "dropblock":
        return DropBlock(insert.p, insert.block_size, insert.shared)
    return Dropout(insert.p, axes=1 if insert.kind == "dropout2d" else None)
