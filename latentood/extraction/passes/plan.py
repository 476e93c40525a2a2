"""Run a model on a few rows and settle how it will be run.

The head is the linear layer that gave the logits there, and the width of a layer is that of its
output there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentood.extraction.model.head import find_head, require_finite, select_logits
from latentood.extraction.model.taps import capture, check_calls, make_taps
from latentood.extraction.passes.engine_choice import choose_engine
from latentood.extraction.passes.engines import Engine, Noisy, Plain
from latentood.extraction.passes.members import MEMBERS, choose_members, prefix, within
from latentood.models.ensemble import Ensemble, networks_of
from latentood.models.heads import ATTACHED, UncertaintyHead, describe
from latentood.pipeline.schema import Pipeline


@dataclass(frozen=True)
class Plan:
    """How a model will be run."""

    engine: Engine
    head: str | None  # name of the last linear layer, if there is one
    classes: int  # C
    shapes: dict[str, tuple[int, ...]]  # layer → shape of one row, usually (D,)
    varying: tuple[str, ...]  # layers followed over the passes
    readout: dict[str, Any] | None = None  # the head that gives more than logits, described

    @property
    def facts(self) -> dict[str, Any]:
        """Give what the fingerprint must name beside the pipeline, if anything.

        Of noises the marks: caches without have the masks of the first version.
        """
        sites = self.engine.sites if isinstance(self.engine, Noisy) else ()
        marks = [site.mark for site in sites if site.mark is not None]
        facts = {"monte_carlo.noise": marks, "uncertainty_head": self.readout}
        return {name: fact for name, fact in facts.items() if fact}


@torch.no_grad()
def make_plan(model: nn.Module, pipeline: Pipeline, batch: Tensor) -> Plan:
    """Settle how to run a model in eval mode, from two or more inputs on its device.

    Raises:
        ModelError: A layer, the head or the stochastic part is not as the pipeline says.
    """
    output = pipeline.model.output
    network = networks_of(model)[0]
    head = find_head(network, batch, named=pipeline.head, output=output)
    taps = make_taps(network, pipeline.layers, head)
    if isinstance(model, Ensemble):  # layers and head are those of member 0
        head, taps, output = head and prefix(0) + head, within(0, taps), None
    with capture(model, taps) as captured:
        logits = select_logits(model(batch), output)
    require_finite(model, logits)
    check_calls(taps, captured.calls)
    shapes = {layer: tuple(values.shape[1:]) for layer, values in captured.outputs.items()}
    attached = getattr(model, ATTACHED, None)
    readout = describe(attached) if isinstance(attached, UncertaintyHead) else None
    if pipeline.monte_carlo is None:
        return Plan(Plain(model, taps, output), head, logits.shape[1], shapes, (), readout)
    if isinstance(model, Ensemble) and pipeline.monte_carlo.activate == MEMBERS:
        engine: Noisy = choose_members(model, taps, pipeline.monte_carlo, batch)
    else:
        engine = choose_engine(model, taps, output, pipeline.monte_carlo, head, batch)
    varying = tuple(layer for layer in shapes if layer in engine.varying)
    return Plan(engine, head, logits.shape[1], shapes, varying, readout)
