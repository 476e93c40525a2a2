"""One array on disk: whole shards in, rows out. The only file that imports zarr.

zarr encodes a shard in memory and :mod:`latentood.files` puts it on the disk, because
zarr's own store neither syncs what it writes nor gives its temporary files the same name twice.
Reading goes through zarr's store, made strict: to zarr a chunk without a file is full of fill
values, to a cache it is damage.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from xxhash import xxh3_64
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, StorePath

from latentood import files
from latentood.store.documents import same_document

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

Values = np.ndarray[Any, np.dtype[Any]]


class Damage(Exception):
    """A block of one array cannot be read; reported as DamagedBlock or Problem."""

    def __init__(self, block: int, what: str) -> None:
        super().__init__(what)
        self.block = block
        self.what = what


class StoredArray:
    """The array in a folder, as its ``zarr.json`` must be.

    Args:
        folder: Its folder.
        key: Its name in messages.
        document: Its ``zarr.json``.
        place: What its digests are bound to, beside block, key, dtype and shape.
        parents: Folders above it, with the ``zarr.json`` that must be there.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        document: dict[str, Any],
        place: str = "",
        parents: Sequence[tuple[Path, dict[str, Any]]] = (),
    ) -> None:
        self.folder = folder
        self.key = key
        self.document = document
        self._place = place
        self._parents = parents
        self._open: tuple[int, xxh3_64] | None = None  # next row of a block that is being read
        self.shape: tuple[int, ...] = tuple(document["shape"])
        self.dtype = np.dtype(document["data_type"])
        self.block_rows = int(document["chunk_grid"]["configuration"]["chunk_shape"][0])

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.shape[0] // self.block_rows)

    def bounds(self, block: int) -> tuple[int, int]:
        """First row of a block, and the row after its last."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.shape[0])

    def shard(self, block: int) -> Path:
        """Give the file of a block."""
        return self.folder / ".".join(["c", str(block), *["0"] * (len(self.shape) - 1)])

    def encode(self, block: int, values: Values) -> Any:
        """Give the bytes of a shard."""
        start, stop = self.bounds(block)
        self._encoder[start:stop] = np.ascontiguousarray(values, self.dtype)
        return self._encoded.pop(self.shard(block).name).as_buffer_like()

    def write(self, block: int, values: Values) -> int:
        """Put a shard on the disk, and give its bytes."""
        encoded = self.encode(block, values)
        files.write_file(self.shard(block), encoded)
        return len(encoded)

    def read_block(self, block: int) -> Values:
        """Read all rows of a block, whatever the document on disk says."""
        return self.load(block, *self.bounds(block))

    def digest(self, block: int, values: Values) -> int:
        """Give the digest of a block: 64 bits of XXH3 over its place and its rows, never 0."""
        digest = self._begin_digest(block)
        digest.update(_little(values))
        return digest.intdigest() or 1

    def read(self, start: int, stop: int, digests: Sequence[int] = ()) -> Values:
        """Read rows of any number of blocks; raises :class:`Damage`.

        With ``digests``, one for each block, a block that was read from its first row to its last,
        by one call or several, must be the one that was committed there.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        first = start // self.block_rows
        if start >= stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if not self.is_intact:
            raise Damage(first, "its zarr.json is missing or was changed")
        if stop <= self.bounds(first)[1]:
            return self._load_checked(first, start, stop, digests)
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for block in range(first, -(-stop // self.block_rows)):
            low, high = self.bounds(block)
            low, high = max(low, start), min(high, stop)
            rows[low - start : high - start] = self._load_checked(block, low, high, digests)
        return rows

    def _load_checked(self, block: int, start: int, stop: int, digests: Sequence[int]) -> Values:
        values = self.load(block, start, stop)
        if digests:
            self._check(block, start, values, digests[block])
        return values

    def _check(self, block: int, start: int, values: Values, expected: int) -> None:
        """Continue the digest of a block that is read in order, and compare it at the end."""
        first, stop = self.bounds(block)
        reading, self._open = self._open, None
        if start == first:
            digest = self._begin_digest(block)
        elif reading is not None and reading[0] == start:
            digest = reading[1]
        else:
            return
        digest.update(_little(values))
        if start + len(values) < stop:
            self._open = start + len(values), digest
        elif (digest.intdigest() or 1) != expected:
            raise Damage(block, "its rows are not those that were committed in this place")

    def _begin_digest(self, block: int) -> xxh3_64:
        start, stop = self.bounds(block)
        shape = [stop - start, *self.shape[1:]]
        about = (self._place, str(block), self.key, self.dtype.name, str(shape), "")
        return xxh3_64("\0".join(about).encode())

    def load(self, block: int, start: int, stop: int) -> Values:
        """Read rows; a failure is the :class:`Damage` of the block."""
        try:
            return np.asarray(self._reader[start:stop])
        except FileNotFoundError:
            raise Damage(block, "its file is missing or empty") from None
        except MemoryError:
            raise
        except OSError as error:
            what = error.strerror or str(error)
            raise Damage(block, f"its file cannot be read ({what})") from error
        except Exception as error:  # a checksum, a decompressor or a shape: whichever fails first
            raise Damage(block, "its bytes are not those that were written") from error

    @cached_property
    def is_intact(self) -> bool:
        """Whether the ``zarr.json`` of the array and of the folders above are as written."""
        documents = ((self.folder, self.document), *self._parents)
        return all(same_document(folder, document) for folder, document in documents)

    @cached_property
    def _encoded(self) -> dict[str, Buffer]:
        return {}

    @cached_property
    def _encoder(self) -> zarr.Array[Any]:
        memory = StorePath(MemoryStore(self._encoded))
        # Else zarr leaves out shards that hold only fill values, which would then count as damaged.
        return zarr.Array.from_dict(memory, self.document).with_config({"write_empty_chunks": True})

    @cached_property
    def _reader(self) -> zarr.Array[Any]:
        return zarr.Array.from_dict(StorePath(_Strict(self.folder, read_only=True)), self.document)


class _Strict(LocalStore):
    """A folder in which nothing may be missing, and nothing is followed."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Buffer:
        return await asyncio.to_thread(self.get_sync, key, *args, **kwargs)

    def get_sync(self, key: str, prototype: Any = None, byte_range: Any = None) -> Buffer:
        with files.open_regular(self.root / key) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:  # zarr takes an empty file for a missing one
                raise FileNotFoundError(key)
            start, stop = _bounds(byte_range, size)
            file.seek(start)
            data = file.read(stop - start)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


def _bounds(byte_range: Any, size: int) -> tuple[int, int]:
    """Give the first byte that zarr asks for, and the one after the last; none beyond the file."""
    match byte_range:
        case RangeByteRequest(start, stop):
            return min(start, size), max(start, min(stop, size))
        case OffsetByteRequest(offset):
            return min(offset, size), size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
        case _:
            return 0, size


def _little(values: Values) -> memoryview:
    """Give the bytes of rows, little-endian, in C order."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def block_digest(arrays: Iterable[tuple[str, Values]]) -> int:
    """Give one digest of several arrays: those of a head; before schema 2, those of a block.

    It is 64 bits of BLAKE2b over key, dtype, shape and little-endian bytes in the order of keys;
    never 0.
    """
    running = hashlib.blake2b(digest_size=8)
    for key, values in sorted(arrays, key=lambda item: item[0]):
        about = f"{key}\0{values.dtype.name}\0{list(values.shape)}\0"
        running.update(about.encode())
        running.update(_little(values))
    return int.from_bytes(running.digest(), "little") or 1
