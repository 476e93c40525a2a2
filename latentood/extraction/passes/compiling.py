"""Compile the parts of a model that have no hook inside."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from latentood.errors import ModelError, one_line
from latentood.extraction.passes.engine_choice import agree
from latentood.extraction.passes.engines import Engine, Noisy
from latentood.extraction.passes.members import Members
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.passes.sites import FunctionalSite, OfModule, Site

log = logging.getLogger(__name__)


@torch.no_grad()
def compile_parts(engine: Engine, batch: Tensor) -> None:
    """Compile a model in place, between its taps and its noise.

    Only ``forward`` of a part is compiled, so that hooks on the part itself run outside of it;
    ``vmap`` and gradients work as before. The model runs ``batch`` before and after.

    Raises:
        ModelError: The noise is in calls that compilation hides, the passes are members, nothing
            can be compiled, the compiler fails, or the compiled model gives something else.
    """
    sites = engine.sites if isinstance(engine, Noisy) else ()
    _refuse_hidden(engine, sites)
    hooked = {tap.module for tap in engine.taps}
    hooked |= {site.module for site in sites if isinstance(site, OfModule)}
    modules = {engine.model.get_submodule(name) for name in hooked}
    keys = row_keys(0, torch.arange(len(batch), device=batch.device))
    before = engine.run(batch, keys)
    names = []
    for name, part in _parts("", engine.model, modules):
        part.forward = torch.compile(part.forward)
        names.append(name or "the model")
    if not names:
        raise ModelError(
            "compile: the model has no part without layers or noise inside; remove extract.compile"
        )
    log.info("compiling %s", ", ".join(names))
    try:
        after = engine.run(batch, keys)
    except ModelError:
        raise
    except Exception as error:  # the compiler and its back ends raise many kinds
        reason = one_line(error)[:300]
        raise ModelError(
            f"compile: {type(error).__name__}: {reason}; remove extract.compile"
        ) from error
    if not agree(after, before):
        raise ModelError(
            "compile: the compiled model does not give what the model gives; remove extract.compile"
        )


def _refuse_hidden(engine: Engine, sites: Sequence[Site]) -> None:
    """Refuse engines that would look into compiled parts."""
    if any(isinstance(site, FunctionalSite) for site in sites):
        raise ModelError(
            "compile: cannot be used with functional dropout, which is found by watching its "
            "calls; remove extract.compile or activate modules instead"
        )
    if isinstance(engine, Members):
        raise ModelError(
            "compile: cannot be used with activate: members, which captures the layers of every "
            "member; remove extract.compile"
        )


def _parts(
    name: str, module: nn.Module, hooked: Collection[nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    """List the largest modules with no hook inside; a layer alone is left as it is."""
    children = [(f"{name}.{n}".lstrip("."), child) for n, child in module.named_children()]
    inside = any(m in hooked for m in module.modules() if m is not module)
    called = not isinstance(module, nn.ModuleList | nn.ModuleDict)
    if children and called and not inside:
        yield name, module
        return
    for path, child in children:
        yield from _parts(path, child, hooked)
