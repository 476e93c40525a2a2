"""The modules of a model as they are seen to run: what can be a layer, and what is stochastic."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentood.config import Pipeline
from latentood.extract.finding import noise_of
from latentood.extract.head import find_head
from latentood.extract.job import resolve_device
from latentood.extract.loading import load_model
from latentood.extract.rows import open_rows


@dataclass(frozen=True)
class LayerFacts:
    """One module.

    Attributes:
        name: Dotted name, as in ``layers:``.
        kind: Class of the module.
        shape: Shape of its output for one row; ``None`` if it gives no tensor.
        calls: How often it runs in one forward pass.
        stochastic: Whether it is noise in training mode.
        head: Whether it gives the logits; its input is ``penultimate``.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    calls: int
    stochastic: bool
    head: bool


def outline(pipeline: Pipeline, *, device: str | None = None) -> list[LayerFacts]:
    """Run one row through a model and list its modules.

    Raises:
        LatentOODError: The model or its data cannot be built.
    """
    where = resolve_device(device or pipeline.extract.device)
    model = load_model(pipeline.model, pipeline.seed).to(where)
    rows = open_rows(pipeline, next(iter(pipeline.splits)), limit=1, classes=None)
    batch = rows[0][0][None].to(where)
    head = find_head(model, batch, named=pipeline.head, output=pipeline.model.output)
    shapes: dict[str, tuple[int, ...]] = {}
    calls: dict[str, int] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():

            def see(m: nn.Module, args: Any, out: Any, name: str = name) -> None:
                calls[name] = calls.get(name, 0) + 1
                value = out[0] if isinstance(out, tuple | list) and out else out
                if isinstance(value, Tensor):
                    shapes[name] = tuple(value.shape[1:])

            hooks.callback(module.register_forward_hook(see).remove)
        model(batch)
    return [
        LayerFacts(
            name=name,
            kind=type(module).__name__,
            shape=shapes.get(name),
            calls=calls.get(name, 0),
            stochastic=noise_of(module) is not None,
            head=name == head,
        )
        for name, module in model.named_modules()
        if name
    ]
