"""The root of a store: where its numbers come from, and the classifier head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentood import files
from latentood.errors import ConfigError, StoreError
from latentood.latents import HEAD
from latentood.latents.facts import Origin, digest
from latentood.store.disk import LOCK, require_folder
from latentood.store.documents import (
    DOCUMENT,
    array_document,
    group_document,
    read_attributes,
    write_document,
)
from latentood.store.schema import DTYPES, SCHEMA, SplitSpec, check_size
from latentood.store.shards import Damage, StoredArray, Values, block_digest

Head = tuple[Values, Values]


@dataclass(frozen=True)
class Root:
    """The content of the root document: the origin, and shape, dtype and digest of the head."""

    origin: Origin
    head: dict[str, Any] | None
    schema: int = SCHEMA

    @classmethod
    def of(cls, origin: Origin, head: Head | None) -> Root:
        """Describe a store that is to be made."""
        if head is None:
            return cls(origin, None)
        weight, bias = np.asarray(head[0]), np.asarray(head[1])
        dtypes = (weight.dtype.name, bias.dtype.name)
        if bias.ndim != 1 or weight.shape[:1] != bias.shape or weight.ndim != 2 or not weight.size:
            raise ConfigError(
                "head: weight must be (C, D) and bias (C,), got "
                f"{weight.shape} and {bias.shape}; give those of the last linear layer"
            )
        if not set(dtypes) <= set(DTYPES):
            raise ConfigError(
                f"head: dtype must be one of {', '.join(DTYPES)}, got {' and '.join(dtypes)}; "
                "convert it first"
            )
        about = {
            "weight": {"shape": list(weight.shape), "dtype": dtypes[0]},
            "bias": {"shape": list(bias.shape), "dtype": dtypes[1]},
            "digest": f"{block_digest([('weight', weight), ('bias', bias)]):016x}",
        }
        return cls(origin, about)

    def write(self, store: Path) -> None:
        """Put the root document in place."""
        attributes = {
            "schema": self.schema,
            "pipeline": self.origin.pipeline,
            "fingerprint": self.origin.fingerprint,
            "versions": self.origin.versions,
            "head": self.head,
        }
        write_document(store, group_document(attributes))

    def place(self, spec: SplitSpec) -> str | None:
        """Name a split by all that its numbers follow from, for digests; None before schema 2."""
        if self.schema == 1:
            return None
        return digest(
            {
                "fingerprint": self.origin.fingerprint,
                "head": None if self.head is None else self.head["digest"],
                "split": spec.name,
                "data": spec.data,
                "rows": spec.rows,
                "block_rows": spec.block_rows,
            }
        )


class StoredHead:
    """The classifier head of a store, as the root document describes it."""

    def __init__(self, store: Path, about: dict[str, Any]) -> None:
        self.folder = store / HEAD
        for folder in (self.folder, self.folder / "weight", self.folder / "bias"):
            require_folder(folder)
        self.digest: str = about["digest"]
        self.arrays = {
            key: StoredArray(
                self.folder / key,
                f"{HEAD}/{key}",
                _document(about[key]),
                parents=[(self.folder, group_document())],
            )
            for key in ("weight", "bias")
        }

    def write(self, values: Mapping[str, Values]) -> None:
        """Put the head in place, instead of what may be there."""
        files.throw_away(self.folder)
        with files.new_folder(self.folder) as draft:
            write_document(draft, group_document())
            for key, array in self.arrays.items():
                (draft / key).mkdir()
                write_document(draft / key, array.document)
                StoredArray(draft / key, key, array.document).write(0, values[key])

    def read(self) -> Head:
        """Read weight and bias, or raise :class:`Damage`."""
        weight, bias = (array.read(0, array.shape[0]) for array in self.arrays.values())
        if f"{block_digest([('weight', weight), ('bias', bias)]):016x}" != self.digest:
            raise Damage(0, "its bytes are not those that were written")
        return weight, bias

    def damage(self) -> str | None:
        """Describe the damage to the head, if there is any."""
        try:
            self.read()
        except Damage as damage:
            return damage.what
        return None


def read_root(store: Path) -> Root:
    """Read the root document of a store.

    Raises:
        StoreError: This is no store, or one whose metadata are damaged or too new.
    """
    try:
        attributes = read_attributes(store)
        if attributes is None:
            raise StoreError(_foreign(store))
        fields = (dict(attributes[name]) for name in ("pipeline", "fingerprint", "versions"))
        root = Root(Origin(*fields), attributes["head"], attributes["schema"])
        if type(root.schema) is not int or root.schema < 1:
            raise ValueError(f"schema {root.schema!r}")
        if root.head is not None:
            StoredHead(store, root.head)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_foreign(store)) from None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(
            f"{store}: the metadata must be as latentood wrote them, but cannot be used "
            f"({error!r}); extract into another --store"
        ) from error
    return root


def refuse_foreign(store: Path) -> None:
    """Check that a path is free or a store of ours, before anything is written to it."""
    if not store.exists() and not store.is_symlink():
        return
    if store.is_dir():
        if all(_begun(entry.name) for entry in store.iterdir()):  # a creation killed at its start
            return
        if (store / DOCUMENT).is_file():
            read_root(store)
            return
    raise StoreError(_foreign(store))


def _begun(name: str) -> bool:
    """Test whether a creation that wrote nothing else may have left a file of this name."""
    return name == LOCK or (name.startswith(DOCUMENT) and name.endswith(files.UNFINISHED))


def _foreign(store: Path) -> str:
    if not store.exists():
        return f"{store}: a cache must be a folder made by latentood extract, but nothing is there"
    return (
        f"{store}: a cache must be a folder made by latentood extract, but this is something else "
        "and is left as it is; choose another --store"
    )


def _document(about: dict[str, Any]) -> dict[str, Any]:
    shape, dtype = tuple(about["shape"]), about["dtype"]
    if dtype not in DTYPES or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"head of shape {shape} and dtype {dtype!r}")
    check_size("head", shape[0], shape[0], math.prod(shape[1:]) * np.dtype(dtype).itemsize)
    return array_document(shape, shape[0], dtype)
