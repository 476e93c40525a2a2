"""The modules that run in a model: their shapes, and which of them to choose as layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

import yaml
from torch import Tensor, nn

from latentood.extraction.model.reductions import REDUCTIONS
from latentood.extraction.model.stages import (
    Output,
    Shape,
    channels_last,
    find_stages,
    reads_first_token,
    watch,
)
from latentood.latents import PENULTIMATE

DEFAULT_REDUCTION = "mean"
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class LayerFacts:
    """One module of a model."""

    name: str  # dotted, as in layers:
    kind: str  # class of the module
    shape: Shape | None  # of its output for one row; None if it is no tensor with a row per input
    reduction: str | None
    """The one that fits the axes of its output: ``mean`` for maps (C, …), ``tokens-mean`` for maps
    (…, C) and tokens, ``cls`` where the head is given the first token."""
    width: int | None  # values of one row after that reduction
    row_bytes: int | None  # bytes of one row after it, in float32
    calls: int  # how often it runs in one forward
    stochastic: bool  # whether it is noise in training mode
    head: bool  # whether it gives the logits; its input is penultimate
    suggested: bool  # whether it ends a main stage of the model


def describe(
    model: nn.Module, batch: Tensor, head: str | None, stochastic: Container[str]
) -> list[LayerFacts]:
    """Run a few rows through a model and list its modules.

    Args:
        model: In eval mode.
        batch: Inputs (B, …), B ≥ 2.
        head: Name of its head.
        stochastic: Names of the modules that are noise in training mode.
    """
    seen = watch(model, batch)
    outputs = {one.name: one for one in seen}
    stages = find_stages(seen)
    last = channels_last(seen)
    first_token = _read_by_first_token(model, stages, head, batch)
    calls = Counter(one.name for one in seen)
    facts = []
    for name, module in model.named_modules():
        shape = outputs[name].shape if name in outputs else None
        how = None if not shape else _fitting(shape, name in last, shape == first_token)
        width = None if not shape or how is None else math.prod(REDUCTIONS.build(how).shape(shape))
        facts.append(
            LayerFacts(
                name=name,
                kind=type(module).__name__,
                shape=shape,
                reduction=how,
                width=width,
                row_bytes=None if width is None else width * FLOAT32_BYTES,
                calls=calls[name],
                stochastic=name in stochastic,
                head=name == head,
                suggested=outputs.get(name) in stages,
            )
        )
    return facts[1:]  # the first is the model itself


def _fitting(shape: Shape, channels_last: bool, by_first_token: bool) -> str:
    """Choose the reduction that leaves the channels."""
    if len(shape) == 1:
        return DEFAULT_REDUCTION
    if len(shape) == 2:
        return "cls" if by_first_token else "tokens-mean"
    return "tokens-mean" if channels_last else DEFAULT_REDUCTION


def _read_by_first_token(
    model: nn.Module, stages: Sequence[Output], head: str | None, batch: Tensor
) -> Shape | None:
    """Give the shape of the tokens of which the head is given the first alone, if any."""
    tokens = [one for one in stages if one.shape is not None and len(one.shape) == 2]
    if not tokens or head is None:
        return None
    return tokens[-1].shape if reads_first_token(model, tokens[-1].name, head, batch) else None


def suggested_layers(facts: Sequence[LayerFacts]) -> list[str | dict[str, str | None]]:
    """List the ends of the main stages and ``penultimate``, as under ``layers:`` in a pipeline."""
    layers: list[str | dict[str, str | None]] = [
        one.name if one.reduction == DEFAULT_REDUCTION else {one.name: one.reduction}
        for one in facts
        if one.suggested
    ]
    return [*layers, PENULTIMATE] if any(one.head for one in facts) else layers


def suggestion(facts: Sequence[LayerFacts]) -> str:
    """Write the suggested layers as a line to put into a pipeline file."""
    listed = yaml.safe_dump(suggested_layers(facts), default_flow_style=True, width=math.inf)
    return f"layers: {listed.strip()}"
