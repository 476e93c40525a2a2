"""Heads as files of weights describe them, and a network that a head is attached to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from latentood.errors import ModelError, suggest
from latentood.models.heads.base import UncertaintyHead

ATTACHED = "uncertainty_head"
"""The submodule of a network that its head is."""
PREFIX = f"{ATTACHED}."
"""What the names of a head's tensors begin with in a file of weights."""


def describe(head: UncertaintyHead) -> dict[str, Any]:
    """Give all of a head but its tensors, as JSON values."""
    return {
        "name": head.name,
        "width": head.width,
        "classes": head.classes,
        "settings": head.settings,
    }


def build_head(
    record: Mapping[str, Any], known: Mapping[str, type[UncertaintyHead]]
) -> UncertaintyHead:
    """Build the head that :func:`describe` described, without its tensors.

    Raises:
        ModelError: There is no such head, or its settings do not fit.
    """
    name = str(record.get("name"))
    if name not in known:
        raise ModelError(f"weights: no head named {name!r}; {suggest(name, known)}")
    try:
        return known[name](int(record["width"]), int(record["classes"]), **record["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"weights: the head {name!r} must be as latentood train wrote it, got {record!r} "
            f"({error}); train again"
        ) from error


def tensors_of(classifier: nn.Module, head: UncertaintyHead) -> dict[str, Tensor]:
    """Give what predictions of a classifier with a head need, by the names that files have."""
    state, left_out = head.state_dict(), head.only_for_training
    kept = {f"{PREFIX}{name}": value for name, value in state.items() if name not in left_out}
    return dict(classifier.state_dict()) | kept


def attach(model: nn.Module, head: UncertaintyHead, select: Callable[[Any], Tensor]) -> None:
    """Let a network give the logits of a head, which reads what ``select`` takes of its output."""
    model.add_module(ATTACHED, head)

    def read(module: nn.Module, args: Any, output: Any) -> Tensor:
        return head(select(output)).logits  # type: ignore[no-any-return]

    model.register_forward_hook(read)
