"""The members of a deep ensemble in the place of stochastic passes.

Layers are named as in one member. What a cache holds once for a row (``features``, and the head) is
that of member 0; the logits are those of the ensemble.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from latentood.errors import ModelError, one_line
from latentood.extraction.model.head import select_logits
from latentood.extraction.model.readout import RowLogits
from latentood.extraction.model.taps import Tap, capture, check_calls
from latentood.extraction.passes.engine_choice import agree, varying_layers
from latentood.extraction.passes.engines import Captured, NoisyLogits
from latentood.models.ensemble import Ensemble, combined_logits, networks_of, stacked_logits
from latentood.pipeline.schema import MonteCarlo, Pipeline

log = logging.getLogger(__name__)

MEMBERS = "members"
_WHO = "monte_carlo.activate: members"


@dataclass(frozen=True)
class Members(NoisyLogits):
    """Every member of an ensemble once; member m is pass m. Nothing is random: no key is read."""

    model: Ensemble

    def run(self, batch: Tensor, keys: Tensor) -> Captured:
        """Run one batch."""
        members = [self.run_member(number, batch) for number in range(self.passes)]
        logits = stacked_logits([of_member for of_member, _ in members])
        return Captured(
            logits=combined_logits(logits),
            features=members[0][1],
            mc_logits=logits,
            mc_features={n: torch.stack([o[n] for _, o in members], dim=1) for n in self.varying},
        )

    def run_member(self, number: int, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run one member: its logits, and its layers reduced."""
        taps = within(number, self.taps)
        with capture(self.model, taps) as captured:
            logits = self.model.logits_of(number, batch)
        check_calls(taps, captured.calls)
        return logits, captured.outputs


def within(number: int, taps: Iterable[Tap]) -> tuple[Tap, ...]:
    """Move taps from member 0 of an ensemble to another one."""
    first, lead = prefix(0), prefix(number)
    return tuple(replace(tap, module=lead + tap.module.removeprefix(first)) for tap in taps)


def prefix(number: int) -> str:
    """Give what the names of the modules of a member begin with."""
    return f"{MEMBERS}.{number}."


def with_passes(pipeline: Pipeline, model: nn.Module) -> Pipeline:
    """Settle the number of passes where they are the members of an ensemble.

    Raises:
        ModelError: The model is no ensemble of two or more, or another number is named.
    """
    config = pipeline.monte_carlo
    if config is None or config.activate != MEMBERS:
        return pipeline
    count = len(networks_of(model))
    if not isinstance(model, Ensemble) or count < 2:
        got = "an Ensemble of one" if isinstance(model, Ensemble) else type(model).__name__
        raise ModelError(
            f"{_WHO}: the model must be an ensemble of ≥ 2 members, got {got}; list the files of "
            "the members in model.weights, or build a latentood.models.Ensemble"
        )
    if "passes" in config.model_fields_set and config.passes != count:
        raise ModelError(
            f"monte_carlo.passes: must be the number of members, {count}, got {config.passes}; "
            "leave it out"
        )
    settled = config.model_copy(update={"passes": count})
    return pipeline.model_copy(update={"monte_carlo": settled})


def choose_members(
    model: Ensemble, taps: Sequence[Tap], config: MonteCarlo, batch: Tensor
) -> Members:
    """Build the engine whose passes are the members, and try it on a few rows.

    Raises:
        ModelError: The members differ in their layers, are equal, or are not all that the ensemble
            computes.
    """
    every = frozenset(tap.layer for tap in taps)
    engine = Members(model, taps, RowLogits(None), (), len(model.members), every)
    _compare(engine, batch)
    truth = engine.run(batch, torch.arange(len(batch)))
    whole = Captured(select_logits(model(batch), None), {})
    if not agree(whole, replace(truth, features={}, mc_logits=None, mc_features={})):
        raise ModelError(
            f"{_WHO}: the ensemble must give the logits of the mean probability of its members, "
            f"and {type(model).__name__} gives others; leave forward as it is in "
            "latentood.models.Ensemble"
        )
    log.info("passes: %d members", engine.passes)
    return replace(engine, varying=varying_layers(truth, config.layers))


def _compare(engine: Members, batch: Tensor) -> None:
    """Check that the members have the same layers, and are not the same networks."""
    logits = []
    for number in range(engine.passes):
        try:
            of_member, outputs = engine.run_member(number, batch)
        except (AttributeError, ModelError) as error:  # a module is missing, or runs otherwise
            raise _unlike(number, one_line(error)) from error
        shapes = {layer: tuple(values.shape[1:]) for layer, values in outputs.items()}
        if number == 0:
            first = shapes
        for layer, shape in shapes.items():
            if shape != first[layer]:
                raise _unlike(number, f"{layer!r} is {shape} instead of {first[layer]} per row")
        logits.append(of_member)
    for (a, of_a), (b, of_b) in combinations(enumerate(stacked_logits(logits).unbind(1)), 2):
        if of_a.equal(of_b):
            raise ModelError(
                f"{_WHO}: all members must differ, but {a} and {b} give the same logits; give each "
                "the weights of another seed"
            )


def _unlike(number: int, what: str) -> ModelError:
    return ModelError(
        f"{_WHO}: every member must have the layers of member 0, got member {number}, where "
        f"{what}; choose layers: that all have, or members of one architecture"
    )
