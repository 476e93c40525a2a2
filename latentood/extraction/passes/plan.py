"""Run a model on a few rows and settle how it will be run.

The head is the linear layer that gave the logits there, and the width of a layer is that of its
output there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.extraction.model.grid import Grid
from latentood.extraction.model.head import require_finite
from latentood.extraction.model.readout import (
    BoxReadout,
    CellLogits,
    Logits,
    RowLogits,
    find_head,
)
from latentood.extraction.model.reductions import BoxMaps
from latentood.extraction.model.taps import (
    capture,
    check_calls,
    make_taps,
    with_members,
)
from latentood.extraction.passes.detecting import BOX_FEATURES, Detecting, choose_box_engine
from latentood.extraction.passes.engine_choice import choose_engine
from latentood.extraction.passes.engines import Engine, Noisy, Plain
from latentood.extraction.passes.members import MEMBERS, choose_members, prefix, within
from latentood.latents import PENULTIMATE
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
def make_plan(model: nn.Module, pipeline: Pipeline, batch: Any) -> Plan:
    """Settle how to run a model in eval mode, from two or more inputs on its device.

    Raises:
        ModelError: A layer, the head or the stochastic part is not as the pipeline says.
    """
    if pipeline.unit == "box":
        return _plan_of_boxes(model, pipeline, batch)
    readout = readout_of(pipeline, batch)
    network = networks_of(model)[0]
    head = find_head(network, batch, readout, named=pipeline.head)
    taps = make_taps(network, pipeline.layers, head)
    if isinstance(model, Ensemble):  # layers and head are those of member 0
        head, taps = head and prefix(0) + head, within(0, taps)
        readout = replace(readout, field=None)
    if isinstance(readout, CellLogits):
        taps = with_members(taps, "cell", readout.grid.reduction)
    with capture(model, taps) as captured:
        logits = readout.logits(model(batch))
    require_finite(model, logits)
    check_calls(taps, captured.calls)
    shapes = {layer: tuple(values.shape[1:]) for layer, values in captured.outputs.items()}
    attached = getattr(model, ATTACHED, None)
    described = describe(attached) if isinstance(attached, UncertaintyHead) else None
    if pipeline.monte_carlo is None:
        engine: Engine = Plain(model, taps, readout)
        return Plan(engine, head, logits.shape[-1], shapes, (), described)
    if isinstance(model, Ensemble) and pipeline.monte_carlo.activate == MEMBERS:
        noisy: Noisy = choose_members(model, taps, pipeline.monte_carlo, batch)
    else:
        noisy = choose_engine(model, taps, readout, pipeline.monte_carlo, head, batch)
    varying = tuple(layer for layer in shapes if layer in noisy.varying)
    return Plan(noisy, head, logits.shape[-1], shapes, varying, described)


def _plan_of_boxes(model: nn.Module, pipeline: Pipeline, images: Sequence[Tensor]) -> Plan:
    """Settle how to run an object detector."""
    images = [one for one in images if one.shape == images[0].shape]  # others are never run beside
    readout = BoxReadout(pipeline.model.output, pipeline.boxes)
    head = find_head(model, images, readout, named=pipeline.head)
    readout = replace(readout, head=head)
    layers = [layer for layer in pipeline.layers if layer.name != PENULTIMATE]
    taps = with_members(make_taps(model, layers, None), "box", BoxMaps())
    plain = Detecting(model, taps, readout)
    with capture(model, taps) as captured:
        readout.call(model, images)
    check_calls(taps, captured.calls)
    outputs = plain.run(images, torch.arange(len(images)))
    if len(layers) == len(pipeline.layers):
        outputs.features.pop(BOX_FEATURES, None)
    elif BOX_FEATURES not in outputs.features:
        raise ModelError(
            "layer 'penultimate': of detectors only R-CNNs, and those whose queries are boxes, "
            "have features of a box before its logits; remove it from layers:"
        )
    shapes = {layer: tuple(values.shape[1:]) for layer, values in outputs.features.items()}
    classes = outputs.logits.shape[-1]
    if pipeline.monte_carlo is None:
        return Plan(plain, head, classes, shapes, ())
    noisy = choose_box_engine(model, taps, readout, pipeline.monte_carlo, images)
    varying = tuple(layer for layer in shapes if layer in noisy.varying)
    return Plan(noisy, head, classes, shapes, varying)


def readout_of(pipeline: Pipeline, batch: Tensor) -> Logits:
    """Choose what is taken for the logits, for inputs like these (B, …).

    Raises:
        ConfigError: The grid of cells does not divide them.
    """
    field = pipeline.model.output
    if pipeline.unit == "cell":
        grid = Grid.over(tuple(batch.shape[1:]), pipeline.cells.stride)
        return CellLogits(field, grid)
    return RowLogits(field)
