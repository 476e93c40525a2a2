"""The logits of a model and the linear layer that makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from latentood.errors import ModelError, suggest


def select_logits(output: Any, field: str | None) -> Tensor:
    """Take the logits (B, C) out of the output of a model, at a field or index if one is named."""
    if field is not None:
        output = _field(output, field)
    if not isinstance(output, Tensor):
        names = _field_names(output)
        known = f"; its fields: {', '.join(names)}" if names else ""
        raise ModelError(
            f"the model's output must be a tensor of logits, got "
            f"{type(output).__name__}{known}; name the field with model.output:"
        )
    if output.dim() != 2:
        raise ModelError(
            f"the logits must be (B, C), got {tuple(output.shape)}; "
            "name another field with model.output:"
        )
    return output


def _field(output: Any, field: str) -> Any:
    if isinstance(output, Tensor):
        raise ModelError(f"model.output is {field!r}, but the model returns a tensor; remove it")
    if isinstance(output, Mapping) and field in output:
        return output[field]
    if isinstance(output, tuple | list) and field.isdigit() and int(field) < len(output):
        return output[int(field)]
    if not isinstance(output, Mapping) and hasattr(output, field):
        return getattr(output, field)
    raise ModelError(f"the model's output has no {field!r}; {suggest(field, _field_names(output))}")


def _field_names(output: Any) -> list[str]:
    if isinstance(output, Mapping):
        return [str(key) for key in output]
    if isinstance(output, tuple | list):
        return [str(index) for index in range(len(output))]
    if dataclasses.is_dataclass(output):
        return [spec.name for spec in dataclasses.fields(output)]
    return []


def find_head(
    model: nn.Module, batch: Tensor, *, named: str | None = None, output: str | None = None
) -> str | None:
    """Find the linear layer whose output is the logits.

    Returns:
        Its dotted name, or ``named`` once that is checked; ``None`` if no linear layer gives them.

    Raises:
        ModelError: The named module does not exist or is not linear.
    """
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if named is not None:
        if named not in linear:
            raise ModelError(f"head {named!r}: must name a linear layer; {suggest(named, linear)}")
        return named
    outputs: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name, module in linear.items():

            def take(m: nn.Module, args: Any, out: Tensor, name: str = name) -> None:
                outputs[name] = out

            hooks.callback(module.register_forward_hook(take).remove)
        logits = select_logits(model(batch), output)
    require_finite(model, logits)
    return next(
        (
            n
            for n, out in reversed(outputs.items())
            if out.shape == logits.shape and out.equal(logits)
        ),
        None,
    )


def require_finite(model: nn.Module, logits: Tensor) -> None:
    """Refuse logits that are not finite, and name the weights that are not."""
    if bool(logits.isfinite().all()):
        return
    tensors = model.state_dict().items()
    bad = next((n for n, t in tensors if t.is_floating_point() and not t.isfinite().all()), None)
    cause = f"{bad} of its weights has NaN or infinity" if bad else "its weights are finite"
    raise ModelError(
        f"the model's logits must be finite, got NaN or infinity for the first rows ({cause}); "
        "look at the weights and the transform"
    )


def linear_layer(model: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """Give weight (C, D) and bias (C,) of a linear layer; zeros where it has no bias."""
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"head {name!r}: must be a linear layer, got {type(layer).__name__}")
    bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
    return layer.weight, bias
