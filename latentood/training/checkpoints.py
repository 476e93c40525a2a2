"""State of a training run in one file: tensors, and everything else as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from latentood import sealed
from latentood.errors import StoreError

FILE = "checkpoint.safetensors"
SCHEMA = 1
_TENSOR = "~tensor"  # stands in the JSON where a tensor was


def save(file: Path, state: Mapping[str, Any], *, identity: Mapping[str, Any]) -> None:
    """Write a state, whole or not at all.

    Args:
        file: Where to; a file of that name is replaced.
        state: Mappings, lists, numbers, texts and tensors, nested.
        identity: What a run must have in common to go on from it, as JSON values.

    Raises:
        StoreError: The folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    document = {
        "schema": SCHEMA,
        "identity": dict(identity),
        "state": _without_tensors(state, "", tensors),
    }
    sealed.write(file, document, tensors)


def load(file: Path, *, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read a state back.

    Raises:
        StoreError: It is no checkpoint, damaged, or of a run with another identity.
        FileNotFoundError: There is none.
    """

    def refuse(what: str) -> StoreError:
        return StoreError(
            f"{file}: must be a checkpoint of latentood train, got {what}; choose another "
            f"{place_of(identity)}, or --overwrite to train anew"
        )

    document, tensors, intact = sealed.read(file, refuse)
    if document.get("schema") != SCHEMA or "state" not in document:
        raise refuse(f"schema {document.get('schema')!r}")
    if not intact:
        raise refuse("bytes that are not those it was written with")
    there: Mapping[str, Any] = document["identity"]
    differing = [name for name in {**there, **identity} if there.get(name) != identity.get(name)]
    if differing:
        shown = "; ".join(
            f"{name} is {str(there.get(name))[:80]} there but {str(identity.get(name))[:80]} here"
            for name in differing
        )
        raise refuse(f"one of another run ({shown})")
    state: dict[str, Any] = _with_tensors(document["state"], tensors)
    return state


def place_of(identity: Mapping[str, Any]) -> str:
    """Name the option that says where a run is kept: a head on cached features has a name."""
    return "--name or --out" if "layer" in identity else "--out"


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = value
        return {_TENSOR: place}
    if isinstance(value, Mapping):
        pairs = [[key, _without_tensors(v, f"{place}/{key}", tensors)] for key, v in value.items()]
        # JSON turns whole numbers that are keys into texts; optimisers number their states.
        return {"~pairs": pairs}
    if isinstance(value, list | tuple):
        return [_without_tensors(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_with_tensors(part, tensors) for part in value]
    if isinstance(value, dict) and _TENSOR in value:
        return tensors[value[_TENSOR]]
    if isinstance(value, dict):
        return {key: _with_tensors(part, tensors) for key, part in value["~pairs"]}
    return value
