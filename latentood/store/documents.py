"""The ``zarr.json`` documents of a cache.

They are written here, not by zarr, for two reasons: their bytes do not change with zarr's
version, and every document of an array follows from its split, so that a damaged one can be
detected and replaced without a backup. A test compares them with those that zarr writes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from latentood import files
from latentood.errors import ConfigError, StoreError
from latentood.latents.facts import digest, plain
from latentood.store.codecs import LZ4, blosc
from latentood.store.schema import SCHEMA, SplitSpec

DOCUMENT = "zarr.json"
OURS = "latentood"
COMMITTED = "committed"

_CHUNK_ROWS = 256
_CHUNK_BYTES = (1 << 16, 1 << 21)
"""Smallest and largest inner chunk: each costs 0.2 ms, and reading one row reads it whole."""

_MOST_BYTES = 1 << 24
_MOST_NESTED = 100
"""Limits of a document, so that one from elsewhere cannot exhaust a reader."""

_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM = {"name": "crc32c"}


def group_document(attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe a group; our own attributes carry their digest, so that damage shows."""
    sealed = {}
    if attributes is not None:
        sealed = {OURS: {**plain(attributes), "digest": digest(attributes)}}
    return {"zarr_format": 3, "node_type": "group", "attributes": sealed}


def array_document(
    shape: tuple[int, ...], block_rows: int, dtype: str, codec: str = LZ4
) -> dict[str, Any]:
    """Describe an array kept in one shard per block."""
    size = np.dtype(dtype).itemsize
    row_bytes = math.prod(shape[1:]) * size
    chunk = [_chunk_rows(block_rows, row_bytes), *shape[1:]]
    sharding = {
        "chunk_shape": chunk,
        "codecs": [{"name": "bytes"} if size == 1 else _LITTLE, blosc(codec, dtype), _CHECKSUM],
        "index_codecs": [_LITTLE, _CHECKSUM],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return _array(shape, (block_rows, *shape[1:]), dtype, codecs)


def log_document(blocks: int, *row: int) -> dict[str, Any]:
    """Describe a commit log: one file for each block, with ``row`` digests of 8 bytes."""
    return _array((blocks, *row), (1, *row), "uint64", [_LITTLE, _CHECKSUM])


def log_name(group: int) -> str:
    """Name the commit log of an array group."""
    return f"{COMMITTED}.{group}" if group else COMMITTED


def split_documents(spec: SplitSpec, schema: int) -> dict[str, dict[str, Any]]:
    """Give all documents of a split: folder within the split → document, parents first."""
    documents = {".": group_document(spec.to_json())}
    for group in range(spec.groups):
        arrays = [len(spec.of_group(group).arrays)] if schema > 1 else []
        documents[log_name(group)] = log_document(spec.blocks, *arrays)
    for array in spec.arrays:
        for parent in reversed(Path(array.key.path).parents):
            documents.setdefault(parent.as_posix(), group_document())
        shape = (spec.rows, *array.tail)
        documents[array.key.path] = array_document(shape, spec.block_rows, array.dtype, array.codec)
    return documents


def encode(document: dict[str, Any]) -> bytes:
    """Write a document, always in the same way.

    Raises:
        ConfigError: It is longer or nested deeper than a reader accepts.
    """
    # No newline at the end: a file that lost its last byte would still be the same document.
    data = json.dumps(document, indent=2).encode()
    deep = _nesting(document) > _MOST_NESTED
    if deep or len(data) > _MOST_BYTES:
        raise ConfigError(
            f"the metadata of a cache must have at most {files.human_bytes(_MOST_BYTES)} and "
            f"{_MOST_NESTED} levels, got {'more levels' if deep else files.human_bytes(len(data))}"
            "; shorten the pipeline's arguments"
        )
    return data


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Put a document in place."""
    files.write_file(folder / DOCUMENT, encode(document))


def same_document(folder: Path, document: dict[str, Any]) -> bool:
    """Test whether a folder has exactly this document, byte for byte."""
    try:
        return files.read_regular(folder / DOCUMENT, _MOST_BYTES) == encode(document)
    except OSError:
        return False


def read_attributes(folder: Path) -> dict[str, Any] | None:
    """Read our own attributes of a group as they were written; None if it is not ours.

    Raises:
        StoreError: The document is not what was written, or a newer latentood wrote it.
        FileNotFoundError: There is none.
    """
    try:
        data = files.read_regular(folder / DOCUMENT, _MOST_BYTES)
        attributes = json.loads(data)["attributes"].get(OURS)
        if attributes is None:
            return None
        _refuse_newer(folder, attributes.get("schema"))
        content = {key: value for key, value in attributes.items() if key != "digest"}
        if data == encode(group_document(content)):
            return content
        what = "they do not match their own digest"
    except (FileNotFoundError, NotADirectoryError, StoreError):
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = error.strerror or str(error) if isinstance(error, OSError) else "not as written"
    raise StoreError(
        f"{folder / DOCUMENT}: the metadata are damaged ({what}); restore that file, or delete "
        f"{folder} and extract again"
    )


def _nesting(value: Any) -> int:
    """Count the levels of a JSON value, which may be deeper than Python's stack."""
    levels, level = 0, [value]
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        levels += 1
    return levels


def _refuse_newer(folder: Path, schema: Any) -> None:
    if type(schema) is int and schema > SCHEMA:
        raise StoreError(
            f"{folder}: this latentood reads caches of schema ≤ {SCHEMA}, but this one has schema "
            f"{schema}; upgrade latentood or extract into another --store"
        )


def _array(
    shape: tuple[int, ...], chunk: tuple[int, ...], dtype: str, codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}
    # Files c.0.0, c.1.0, … in one folder: "/" would make a folder, with its own sync, per block.
    encoding = {"name": "default", "configuration": {"separator": "."}}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": grid,
        "chunk_key_encoding": encoding,
        "fill_value": "NaN" if dtype.startswith("float") else 0,
        "codecs": codecs,
        "attributes": {},
        "storage_transformers": [],
    }


def _chunk_rows(block_rows: int, row_bytes: int) -> int:
    """Choose the rows of an inner chunk: the divisor of R that is nearest to the wanted size."""
    least, most = _CHUNK_BYTES
    wanted = min(max(_CHUNK_ROWS, least // row_bytes), max(1, most // row_bytes))
    small = [d for d in range(1, math.isqrt(block_rows) + 1) if block_rows % d == 0]
    divisors = sorted({*small, *(block_rows // d for d in small)})
    return min(divisors, key=lambda rows: abs(math.log(rows / wanted)))
