"""The file of a fitted detector: its arrays, and the rest of it as a document under one digest.

In files of schema 1, which are still read, the digest covers the arrays alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor

from latentood import sealed
from latentood.errors import StoreError

SCHEMA = 3


class Header(BaseModel):
    """All of a fitted detector but its arrays."""

    model_config = ConfigDict(strict=True)

    version: int = Field(SCHEMA, alias="schema")
    detector: str
    hyperparameters: dict[str, Any]
    widths: dict[str, list[PositiveInt]]  # key → shape of one row
    origin: str
    provenance: dict[str, Any]
    heads: dict[str, dict[str, Any]] = {}  # since 3: name → description, of heads on features


def write(file: Path, header: Header, state: dict[str, Tensor]) -> None:
    """Write header and arrays, whole or not at all.

    Raises:
        StoreError: The folder does not exist or cannot be written.
    """
    document = header.model_dump(by_alias=True)
    if not header.heads:  # readers of schema 2 can read it as well
        document["schema"] = 2
        del document["heads"]
    sealed.write(file, document, state)


def read(file: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read header and arrays, and check that they are those that were written together.

    Raises:
        StoreError: No such file, not ours, damaged, or written by a newer latentood.
    """
    try:
        document, arrays, intact = sealed.read(file, lambda what: not_ours(file, what))
    except FileNotFoundError:
        raise StoreError(
            f"{file}: must be a file that Fitted.save wrote, but there is none; fit and save one"
        ) from None
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
    if not (_intact_1(document, arrays) if schema == 1 else intact):
        raise not_ours(file, "a header or arrays that are not those it was written with")
    return header, arrays


def not_ours(file: Path, what: str) -> StoreError:
    """Build the error for a file that holds ``what`` instead of a fitted detector."""
    return StoreError(
        f"{file}: must be a file that Fitted.save wrote, got {what}; fit and save the detector "
        "again"
    )


def _intact_1(document: Any, arrays: dict[str, Tensor]) -> bool:
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    return bool(
        document.get("shapes") == shapes and document.get("digest") == sealed.digest(arrays)
    )
