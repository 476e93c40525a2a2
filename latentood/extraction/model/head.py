"""The logits in the output of a model, and the linear layer that makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from latentood.errors import ModelError, suggest


def select_logits(output: Any, field: str | None) -> Tensor:
    """Take the logits (B, C) out of the output of a model, at a field or index if one is named."""
    logits = output_at(output, field)
    if logits.dim() != 2:
        remedy = "; set unit: cell for a segmenter" if logits.dim() == 4 else ""
        raise ModelError(
            f"the logits must be (B, C), got {tuple(logits.shape)}; "
            f"name another field with model.output:{remedy}"
        )
    return logits


def output_at(output: Any, field: str | None) -> Tensor:
    """Take a tensor out of the output of a model, at a field or index if one is named."""
    if field is not None:
        output = _field(output, field)
    if not isinstance(output, Tensor):
        names = _field_names(output)
        known = f"; its fields: {', '.join(names)}" if names else ""
        raise ModelError(
            f"the model's output must be a tensor of logits, got "
            f"{type(output).__name__}{known}; name the field with model.output:"
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
    """Give weight (C, D) and bias (C,) of a linear layer, or of a 1×1 convolution.

    The bias is zeros where it has none.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ModelError(f"head {name!r}: must be a linear layer, got {type(layer).__name__}")
    weight = layer.weight.flatten(1)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
