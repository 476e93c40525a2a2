"""A classifier as score taps see it: differentiable in its input, its parameters left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.extract.head import select_logits
from latentood.extract.plan import Plan
from latentood.extract.reductions import reduction
from latentood.extract.stages import Output, watch
from latentood.extract.taps import Tap, capture
from latentood.latents import PENULTIMATE


@dataclass(frozen=True)
class Network:
    """A model, how it is run, and what its inputs look like.

    Attributes:
        plan: How the model is run.
        probe: (n, …) a few inputs, on the device of the model.
    """

    plan: Plan
    probe: Tensor

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode and without gradients."""
        return self.plan.engine.model

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.probe.device

    @cached_property
    def outputs(self) -> list[Output]:
        """What all modules gave for the probe, in order."""
        return watch(self.model, self.probe)

    def logits(self, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → (B, C) float64."""
        return select_logits(self.model(inputs), self.plan.engine.output).double()

    def features(self, tap: Tap, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model: (B, …) → features (B, D) and logits (B, C), float64."""
        with capture(self.model, [tap]) as seen:
            logits = self.logits(inputs)
        return seen.outputs[tap.layer].double(), logits

    def kept(self, layer: str, who: str) -> Tap:
        """Find the tap of a layer whose features the cache keeps as vectors.

        Raises:
            ModelError: The pipeline does not keep that layer, or not as vectors.
        """
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
        return next(tap for tap in self.plan.engine.taps if tap.layer == layer)

    def head(self, who: str) -> tuple[Tap, Tensor, Tensor]:
        """Give the tap of the head's input, weight (C, D) and bias (C,), float64.

        Raises:
            ModelError: No linear layer gives the logits.
        """
        layer = None if self.plan.head is None else self.model.get_submodule(self.plan.head)
        if self.plan.head is None or not isinstance(layer, nn.Linear):
            raise ModelError(
                f"{who}: must know the head, but no linear layer gives the logits of this model; "
                "name the last linear layer with head: <module name>"
            )
        tap = Tap(PENULTIMATE, self.plan.head, None, reduction("mean"), of_input=True)
        weight = layer.weight.double()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.double()
        return tap, weight, bias

    def gradient(self, who: str, values: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Differentiate one value per row with respect to the inputs of that row.

        Args:
            who: Begins a message.
            values: (B, …) → (B,), each of its own row alone.
            inputs: (B, …); left untouched.

        Returns:
            (B, …) of the dtype of the inputs.

        Raises:
            ModelError: The inputs are no floats, or the model cannot be differentiated.
        """
        if not inputs.is_floating_point():
            raise ModelError(
                f"{who}: inputs must be floats to have gradients, got {inputs.dtype}; use a "
                "detector that reads the logits instead"
            )
        deterministic = torch.backends.cudnn.flags(benchmark=False, deterministic=True)
        with torch.enable_grad(), deterministic:
            leaf = inputs.detach().requires_grad_()
            found = values(leaf.clone())  # a model may change its input in place
            if not found.requires_grad:
                raise ModelError(
                    f"{who}: the logits must depend on the inputs by operations with gradients, "
                    "got none that has; use a detector that reads the logits instead"
                )
            (gradient,) = torch.autograd.grad(found.sum(), leaf)
        return gradient.detach()

    @contextmanager
    def replacing(self, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace the output of a module, or the first of several, until the context ends."""

        def exchange(module: nn.Module, args: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return change(output)
            return type(output)([change(output[0]), *output[1:]])

        handle = self.model.get_submodule(layer).register_forward_hook(exchange)
        try:
            yield
        finally:
            handle.remove()
