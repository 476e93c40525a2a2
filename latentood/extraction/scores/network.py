"""The model of an extraction, as score taps see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.extraction.model.head import linear_layer, select_logits
from latentood.extraction.model.reductions import Mean
from latentood.extraction.model.stages import Output, Shape, channels_last, watch
from latentood.extraction.model.taps import Tap, capture
from latentood.extraction.passes.plan import Plan
from latentood.latents import PENULTIMATE


@dataclass(frozen=True)
class TappedModel:
    """The :class:`~latentood.detectors.families.score_taps.base.Network` of a model.

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

    @property
    def maps(self) -> list[str]:
        """Modules that run once per forward and give a map or tokens, in the order they finish."""
        calls = Counter(one.name for one in self._outputs)
        return [
            one.name
            for one in self._outputs
            if calls[one.name] == 1 and one.shape is not None and _is_matrix(one.shape)
        ]

    def positions_first(self, layer: str) -> bool:
        """Tell whether the map of a layer is (…, C) and not (C, …)."""
        return layer in channels_last(self._outputs)

    def logits(self, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → (B, C) float64."""
        return select_logits(self.model(inputs), self.plan.engine.output).double()

    def features(self, layer: str, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → features (B, D) of a layer as the cache keeps them, float64."""
        return self._tapped(self._kept[layer], inputs)

    def head_input(self, inputs: Tensor) -> Tensor:
        """Run the model: (B, …) → what the head is given, (B, D) float64."""
        name = self.plan.head or ""
        return self._tapped(Tap(PENULTIMATE, name, None, Mean(), of_input=True), inputs)

    def head(self, who: str) -> tuple[Tensor, Tensor]:
        """Give weight (C, D) and bias (C,) of the head, float64.

        Raises:
            ModelError: No linear layer gives the logits.
        """
        if self.plan.head is None:
            raise ModelError(
                f"{who}: must know the head, but no linear layer gives the logits of this model; "
                "name the last linear layer with head: <module name>"
            )
        weight, bias = linear_layer(self.model, self.plan.head)
        return weight.double(), bias.double()

    def require_layer(self, layer: str, who: str) -> None:
        """Check that the cache keeps a layer, as vectors.

        Raises:
            ModelError: The pipeline does not keep it, or not as vectors.
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

    @cached_property
    def _outputs(self) -> list[Output]:
        """What all modules gave for the probe, in order."""
        return watch(self.model, self.probe)

    @cached_property
    def _kept(self) -> dict[str, Tap]:
        return {tap.layer: tap for tap in self.plan.engine.taps}

    def _tapped(self, tap: Tap, inputs: Tensor) -> Tensor:
        with capture(self.model, [tap]) as seen:
            self.model(inputs)
        return seen.outputs[tap.layer].double()


def _is_matrix(row: Shape) -> bool:
    """Tell whether there is more than one channel and more than one position."""
    return len(row) in (2, 3) and sum(size > 1 for size in row) > 1 and row[0] > 1
