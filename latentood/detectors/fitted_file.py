"""The file of a fitted detector: safetensors, with the rest as JSON in its header.

A digest covers the text of that JSON and all arrays, so that no byte of either can change in
silence; in files of schema 1, which are still read, it covers the arrays alone. Nothing in a file
is ever imported or executed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentood.errors import StoreError, one_line
from latentood.files import human_bytes, new_file

SCHEMA = 2
_FIELD, _DIGEST = "latentood", "digest"  # of the metadata that safetensors keeps
_MOST_HEADER = 16 << 20  # bytes: names and facts take a few thousand


class Header(BaseModel):
    """All of a fitted detector but its arrays."""

    model_config = ConfigDict(strict=True)

    version: int = Field(SCHEMA, alias="schema")
    detector: str
    hyperparameters: dict[str, Any]
    widths: dict[str, list[PositiveInt]]  # key → shape of one row
    origin: str
    provenance: dict[str, Any]


def write(file: Path, header: Header, state: dict[str, Tensor]) -> None:
    """Write header and arrays, whole or not at all.

    Raises:
        StoreError: The folder does not exist or cannot be written.
    """
    # A tensor may be a view into a larger one or share it; the file holds a copy of each.
    arrays = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    text = json.dumps({**header.model_dump(by_alias=True), "arrays": _described(arrays)})
    try:
        with new_file(file) as draft:
            save_file(arrays, draft, metadata={_FIELD: text, _DIGEST: _digest(arrays, text)})
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{file}: must be in a folder that can be written, got {one_line(error)}; choose "
            "another path"
        ) from error


def read(file: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read header and arrays, and check that they are those that were written together.

    Raises:
        StoreError: No such file, not ours, damaged, or written by a newer latentood.
    """
    metadata, arrays = _opened(file)
    try:
        document = json.loads(metadata.get(_FIELD, "null"))
    except (ValueError, RecursionError) as error:
        raise not_ours(file, f"a header that is no JSON ({one_line(error)})") from error
    if not isinstance(document, dict):
        raise not_ours(file, "a safetensors file of something else")
    schema = document.get("schema")
    if type(schema) is not int or schema > SCHEMA:
        raise StoreError(
            f"{file}: schema must be ≤ {SCHEMA}, got {schema!r}; upgrade latentood, or fit and "
            "save again with this one"
        )
    try:
        header = Header.model_validate(document)
    except ValidationError as error:
        wrong = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        raise not_ours(file, f"a header without {', '.join(wrong)}") from None
    if not (_intact_1 if schema < SCHEMA else _intact)(document, metadata, arrays):
        raise not_ours(file, "a header or arrays that are not those it was written with")
    return header, arrays


def not_ours(file: Path, what: str) -> StoreError:
    """Build the error for a file that holds ``what`` instead of a fitted detector."""
    return StoreError(
        f"{file}: must be a file that Fitted.save wrote, got {what}; fit and save the detector "
        "again"
    )


def _opened(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Give metadata and arrays of any safetensors file."""
    try:
        if file.is_file():  # a FIFO or a device has no end
            _check_length(file)
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()
                return opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}
    except Exception as error:  # whatever safetensors and torch raise on bytes of another kind
        raise not_ours(file, f"a file that cannot be read ({one_line(error)})") from error
    raise StoreError(
        f"{file}: must be a file that Fitted.save wrote, but there is none; fit and save one"
    )


def _check_length(file: Path) -> None:
    """Refuse a header longer than any of ours before it is read."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {human_bytes(length)}")


def _intact(document: Any, metadata: dict[str, str], arrays: dict[str, Tensor]) -> bool:
    digest = _digest(arrays, metadata[_FIELD])
    return bool(document.get("arrays") == _described(arrays) and metadata.get(_DIGEST) == digest)


def _intact_1(document: Any, metadata: dict[str, str], arrays: dict[str, Tensor]) -> bool:
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    return bool(document.get("shapes") == shapes and document.get("digest") == _digest(arrays))


def _described(arrays: dict[str, Tensor]) -> dict[str, list[Any]]:
    return {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}


def _digest(arrays: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 over the text of a header, and names, types and bytes of all arrays."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype}\n".encode())
        digest.update(arrays[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
