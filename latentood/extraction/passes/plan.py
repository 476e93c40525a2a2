"""Try a model on a few rows and settle how it will be run.

Nothing about a model is believed: the head is the linear layer that was seen to give the
logits, and a layer's width is the one it was seen to have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentood.extraction.model.head import find_head, select_logits
from latentood.extraction.model.taps import capture, check_calls, make_taps
from latentood.extraction.passes.choice import choose_engine
from latentood.extraction.passes.engines import Engine, Plain
from latentood.pipeline.schema import Pipeline


@dataclass(frozen=True)
class Plan:
    """How a model will be run.

    Attributes:
        engine: Ready to run batches.
        head: Name of the last linear layer, if there is one.
        classes: C.
        shapes: layer → shape of one row, usually (D,).
        varying: Layers followed over the passes.
    """

    engine: Engine
    head: str | None
    classes: int
    shapes: dict[str, tuple[int, ...]]
    varying: tuple[str, ...]


@torch.no_grad()
def make_plan(model: nn.Module, pipeline: Pipeline, batch: Tensor) -> Plan:
    """Settle how to run a model.

    Args:
        model: In eval mode, on its device.
        pipeline: What is wanted.
        batch: A few inputs (two rows suffice) on the same device.

    Raises:
        ModelError: A layer, the head or the stochastic part is not as the pipeline says.
    """
    output = pipeline.model.output
    head = find_head(model, batch, named=pipeline.head, output=output)
    taps = make_taps(model, pipeline.layers, head)
    with capture(model, taps) as seen:
        logits = select_logits(model(batch), output)
    check_calls(taps, seen.calls)
    shapes = {layer: tuple(values.shape[1:]) for layer, values in seen.outputs.items()}
    if pipeline.monte_carlo is None:
        return Plan(Plain(model, taps, output), head, logits.shape[1], shapes, ())
    engine = choose_engine(model, taps, output, pipeline.monte_carlo, head, batch)
    varying = tuple(layer for layer in shapes if layer in engine.varying)
    return Plan(engine, head, logits.shape[1], shapes, varying)
