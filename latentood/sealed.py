"""Files of arrays with a JSON document in their header, both under one digest: safetensors.

No byte of either can change in silence. Nothing in a file is ever imported or executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentood.errors import LatentOODError, StoreError, one_line
from latentood.files import human_bytes, new_file

_FIELD, _DIGEST = "latentood", "digest"  # of the metadata that safetensors keeps
_MOST_HEADER = 16 << 20  # bytes: names and facts take a few thousand

Refuse = Callable[[str], LatentOODError]
"""Builds the error for a file that holds something else, given what it holds."""


class Content(NamedTuple):
    """What a file holds."""

    document: dict[str, Any]
    arrays: dict[str, Tensor]
    intact: bool  # whether both are those that were written together


def write(file: Path, document: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a document and arrays, whole or not at all.

    Raises:
        StoreError: The folder does not exist or cannot be written.
    """
    # A tensor may be a view into a larger one or share it; the file holds a copy of each.
    arrays = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    text = json.dumps({**document, "arrays": _described(arrays)})
    try:
        with new_file(file) as draft:
            mode = draft.stat().st_mode
            save_file(arrays, draft, metadata={_FIELD: text, _DIGEST: digest(arrays, text)})
            _order_header(draft)
            draft.chmod(mode)  # safetensors makes files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{file}: must be in a folder that can be written, got {one_line(error)}; choose "
            "another path"
        ) from error


def _order_header(file: Path) -> None:
    """Write our two fields in one order: safetensors draws it, and equal files have equal bytes."""
    with open(file, "r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # else it is not written as safetensors writes it now
            opened.seek(8)
            opened.write(text.ljust(length))


def read(file: Path, refuse: Refuse) -> Content:
    """Read a document and arrays; the caller decides what to do where they are not intact.

    Raises:
        StoreError: The file holds something else, by ``refuse``.
        FileNotFoundError: There is no such file.
    """
    metadata, arrays = _opened(file, refuse)
    try:
        document = json.loads(metadata.get(_FIELD, "null"))
    except (ValueError, RecursionError) as error:
        raise refuse(f"a header that is no JSON ({one_line(error)})") from error
    if not isinstance(document, dict):
        raise refuse("a safetensors file of something else")
    intact = document.get("arrays") == _described(arrays) and metadata.get(_DIGEST) == digest(
        arrays, metadata[_FIELD]
    )
    return Content(document, arrays, bool(intact))


def read_intact(file: Path, refuse: Refuse) -> Content:
    """Read a document and arrays that are those that were written together.

    Raises:
        LatentOODError: There is no such file, it holds something else, or other bytes than it was
            written with; by ``refuse``.
    """
    try:
        content = read(file, refuse)
    except FileNotFoundError:
        raise refuse("no file") from None
    if not content.intact:
        raise refuse("other bytes than it was written with")
    return content


def read_document(file: Path) -> dict[str, Any]:
    """Read the document of a safetensors file without its arrays; empty where it has none.

    Its digest is not checked.
    """
    try:
        _check_length(file)
        with safe_open(file, framework="pt") as opened:
            document = json.loads((opened.metadata() or {}).get(_FIELD, "{}"))
    except Exception:  # whatever safetensors raises on bytes of another kind
        return {}
    return document if isinstance(document, dict) else {}


def digest(arrays: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 over the text of a document, and names, types and bytes of all arrays."""
    running = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        running.update(f"{name} {arrays[name].dtype}\n".encode())
        running.update(arrays[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return running.hexdigest()


def _opened(file: Path, refuse: Refuse) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Give metadata and arrays of any safetensors file."""
    try:
        if file.is_file():  # a FIFO or a device has no end
            _check_length(file)
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()
                return opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}
    except Exception as error:  # whatever safetensors and torch raise on bytes of another kind
        raise refuse(f"a file that cannot be read ({one_line(error)})") from error
    raise FileNotFoundError(file)


def _check_length(file: Path) -> None:
    """Refuse a header longer than any of ours before it is read."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {human_bytes(length)}")


def _described(arrays: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    return {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
