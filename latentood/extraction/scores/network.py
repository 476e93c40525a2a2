"""The model of an extraction, as score taps use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentood.detectors.families.score_taps.base import Network
from latentood.errors import ModelError
from latentood.extraction.model.head import linear_layer
from latentood.extraction.model.readout import RowLogits
from latentood.extraction.model.reductions import Mean
from latentood.extraction.model.stages import Output, Shape, channels_last, watch
from latentood.extraction.model.taps import Tap, capture
from latentood.extraction.passes.plan import Plan
from latentood.latents import PENULTIMATE
from latentood.models.ensemble import networks_of


@dataclass(frozen=True)
class TappedModel(Network):
    """A model as score taps use it."""

    plan: Plan  # how the model is run
    probe: Tensor  # (n, …) a few inputs, on the device of the model

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode and without gradients."""
        return self.plan.engine.model

    @override
    @property
    def device(self) -> torch.device:
        return self.probe.device

    @override
    @property
    def maps(self) -> list[str]:
        calls = Counter(one.name for one in self._outputs)
        return [
            one.name
            for one in self._outputs
            if calls[one.name] == 1 and one.shape is not None and _is_matrix(one.shape)
        ]

    @override
    def positions_first(self, layer: str) -> bool:
        return layer in channels_last(self._outputs)

    @override
    def logits(self, inputs: Tensor) -> Tensor:
        return self._readout.logits(self.model(inputs)).double()

    @override
    def features(self, layer: str, inputs: Tensor) -> Tensor:
        return self._tapped(self._kept[layer], inputs)

    @override
    def head_input(self, inputs: Tensor) -> Tensor:
        name = self.plan.head or ""
        return self._tapped(Tap(PENULTIMATE, name, None, Mean(), of_input=True), inputs)

    @override
    def head(self, who: str) -> tuple[Tensor, Tensor]:
        if self.plan.head is None:
            raise ModelError(
                f"{who}: must know the head, but no linear layer gives the logits of this model; "
                "name the last linear layer with head: <module name>"
            )
        weight, bias = linear_layer(self.model, self.plan.head)
        return weight.double(), bias.double()

    @override
    def require_layer(self, layer: str, who: str) -> None:
        shapes = self.plan.shapes
        if layer not in shapes:
            raise ModelError(
                f"{who}: layer {layer!r} must be among layers:, got {', '.join(shapes)}; add it, "
                "so that the fit rows have its features"
            )
        if len(shapes[layer]) != 1:
            raise ModelError(
                f"{who}: layer {layer!r} must be reduced to a vector, got {shapes[layer]} per row; "
                f"choose another reduction in layers:, e.g. {{{layer}: mean}}"
            )

    @override
    def gradient(self, who: str, values: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        if not inputs.is_floating_point():
            raise ModelError(
                f"{who}: inputs must be floats to have gradients, got {inputs.dtype}; use a "
                "detector that reads the logits instead"
            )
        deterministic = torch.backends.cudnn.flags(benchmark=False, deterministic=True)
        with torch.enable_grad(), deterministic:
            leaf = inputs.detach().requires_grad_()
            outputs = values(leaf.clone())  # a model may change its input in place
            if not outputs.requires_grad:
                raise ModelError(
                    f"{who}: the logits must depend on the inputs by operations with gradients, "
                    "got none that has; use a detector that reads the logits instead"
                )
            (gradient,) = torch.autograd.grad(outputs.sum(), leaf)
        return gradient.detach()

    @override
    @contextmanager
    def replacing(self, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:

        def exchange(module: nn.Module, args: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return change(output)
            return type(output)([change(output[0]), *output[1:]])

        with ExitStack() as hooks:
            for network in networks_of(self.model):
                hooks.enter_context(network.get_submodule(layer).register_forward_hook(exchange))
            yield

    @property
    def _readout(self) -> RowLogits:
        readout = self.plan.engine.readout
        if not isinstance(readout, RowLogits):
            raise ModelError(
                "scores: need a model that gives logits (B, C) and unit: image; remove scores:, or "
                "use detectors that read logits or features"
            )
        return readout

    @cached_property
    def _outputs(self) -> list[Output]:
        """The outputs of all modules for the probe, in order; of an ensemble, in member 0."""
        return watch(networks_of(self.model)[0], self.probe)

    @cached_property
    def _kept(self) -> dict[str, Tap]:
        return {tap.layer: tap for tap in self.plan.engine.taps}

    def _tapped(self, tap: Tap, inputs: Tensor) -> Tensor:
        with capture(self.model, [tap]) as captured:
            self.model(inputs)
        return captured.outputs[tap.layer].double()


def _is_matrix(row: Shape) -> bool:
    """Test whether there is more than one channel and more than one position."""
    return len(row) in (2, 3) and sum(size > 1 for size in row) > 1 and row[0] > 1
