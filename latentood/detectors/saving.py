"""Fitted detectors on disk: arrays in one safetensors file, the rest as JSON in its header.

Nothing in the file is ever imported or executed; :mod:`latentood.detectors.loading` looks the
detector up by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentood.detectors.base import State
from latentood.errors import StoreError

SCHEMA = 1
_FIELD = "latentood"
_PARTS: dict[str, type] = {
    "detector": str,
    "hyperparameters": dict,
    "widths": dict,
    "origin": str,
    "provenance": dict,
    "shapes": dict,
    "digest": str,
}


def write(path: Path, header: dict[str, Any], state: State) -> None:
    """Write the parts of a fitted detector; the file is there complete or not at all.

    Args:
        path: The file.
        header: What is not an array, as JSON values.
        state: The arrays.

    Raises:
        StoreError: The folder does not exist or cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    header = {
        "schema": SCHEMA,
        **header,
        "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
        "digest": _digest(state),
    }
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        # A tensor may be a view into a larger one or share it; the file holds each by itself.
        save_file(
            {name: tensor.clone() for name, tensor in state.items()},
            temporary,
            metadata={_FIELD: json.dumps(header)},
        )
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path}: must be in a folder that can be written, got {error}; choose another path"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], State]:
    """Read header and arrays, and check that they belong together.

    Raises:
        StoreError: No such file, not ours, damaged, or written by a newer latentood.
    """
    if not path.is_file():
        raise StoreError(f"{path}: must be a file that Fitted.save wrote, but there is none")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_FIELD, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise _not_ours(path, f"a file that cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _not_ours(path, "a safetensors file of something else")
    schema = header.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise StoreError(
            f"{path}: schema must be ≤ {SCHEMA}, got {schema!r}; upgrade latentood, or fit and "
            "save again with this one"
        )
    missing = [part for part, kind in _PARTS.items() if not isinstance(header.get(part), kind)]
    if missing:
        raise _not_ours(path, f"a header without {', '.join(missing)}")
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if header["shapes"] != shapes or header["digest"] != _digest(state):
        raise _not_ours(path, "arrays that are not those it was written with")
    return header, state


def _digest(state: State) -> str:
    """SHA-256 over names, types and bytes of all arrays."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype}\n".encode())
        digest.update(_bytes(state[name]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _not_ours(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: must be a file that Fitted.save wrote, got {what}; fit and save the detector "
        "again"
    )
