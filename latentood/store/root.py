"""The root of a store: where its numbers come from, and the classifier head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentood import files
from latentood.errors import ConfigError, StoreError
from latentood.latents import HEAD
from latentood.latents.facts import Origin
from latentood.store.disk import LOCK
from latentood.store.documents import (
    DOCUMENT,
    array_document,
    group_document,
    read_attributes,
    same_document,
    write_document,
)
from latentood.store.schema import DTYPES, SCHEMA
from latentood.store.shards import Damage, StoredArray, Values, block_digest

Head = tuple[Values, Values]


@dataclass(frozen=True)
class Root:
    """The content of the root document: the origin, and shape, dtype and digest of the head."""

    origin: Origin
    head: dict[str, Any] | None

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
            "schema": SCHEMA,
            "pipeline": self.origin.pipeline,
            "fingerprint": self.origin.fingerprint,
            "versions": self.origin.versions,
            "head": self.head,
        }
        write_document(store, group_document(attributes))


class StoredHead:
    """The classifier head of a store, as the root document describes it."""

    def __init__(self, store: Path, about: dict[str, Any]) -> None:
        self.folder = store / HEAD
        self.digest: str = about["digest"]
        self.arrays = {
            key: StoredArray(self.folder / key, f"{HEAD}/{key}", _document(about[key]))
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
        if not same_document(self.folder, group_document()):
            return "its zarr.json is missing or was changed"
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
        root = Root(Origin(*fields), attributes["head"])
        if root.head is not None:
            StoredHead(store, root.head)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_foreign(store)) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
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
    return array_document(shape, shape[0], dtype)
