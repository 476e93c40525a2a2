"""One array on disk: whole shards in, rows out. The only file that imports zarr.

zarr encodes a shard in memory and :mod:`latentood.files` puts it on the disk, because
zarr's own store neither syncs what it writes nor gives its temporary files the same name twice.
Reading goes through zarr's store, made strict: to zarr a chunk without a file is full of fill
values, to a cache it is damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
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
    """The array in a folder, as its ``zarr.json`` must be; ``key`` is its name in messages."""

    def __init__(self, folder: Path, key: str, document: dict[str, Any]) -> None:
        self.folder = folder
        self.key = key
        self.document = document
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

    def read(self, start: int, stop: int) -> Values:
        """Read rows of any number of blocks; raises :class:`Damage`."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        first = start // self.block_rows
        if start >= stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if not self._document_is_intact:
            raise Damage(first, "its zarr.json is missing or was changed")
        if stop <= self.bounds(first)[1]:
            return self.load(first, start, stop)
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for block in range(first, -(-stop // self.block_rows)):
            low, high = self.bounds(block)
            low, high = max(low, start), min(high, stop)
            rows[low - start : high - start] = self.load(block, low, high)
        return rows

    def load(self, block: int, start: int, stop: int) -> Values:
        """Read rows; a failure is the :class:`Damage` of the block."""
        try:
            return np.asarray(self._reader[start:stop])
        except FileNotFoundError:
            raise Damage(block, "its file is missing or empty") from None
        except MemoryError:
            raise
        except OSError as error:
            raise Damage(block, f"its file cannot be read ({error.strerror})") from error
        except Exception as error:  # a checksum, a decompressor or a shape: whichever fails first
            raise Damage(block, "its bytes are not those that were written") from error

    @cached_property
    def _document_is_intact(self) -> bool:
        return same_document(self.folder, self.document)

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
    """A folder in which nothing may be missing."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Buffer:
        return _present(key, await super().get(key, *args, **kwargs))

    def get_sync(self, key: str, **kwargs: Any) -> Buffer:
        return _present(key, super().get_sync(key, **kwargs))


def _present(key: str, data: Buffer | None) -> Buffer:
    if data is None or len(data) == 0:  # zarr takes an empty file for a missing one
        raise FileNotFoundError(key)
    return data


def block_digest(arrays: Iterable[tuple[str, Values]]) -> int:
    """Give the digest of a block, the number in its commit log, from (key, rows) of every array.

    It is 64 bits of BLAKE2b over key, dtype, shape and little-endian bytes in the order of keys;
    never 0, which stands for an uncommitted block.
    """
    running = hashlib.blake2b(digest_size=8)
    for key, values in sorted(arrays, key=lambda item: item[0]):
        about = f"{key}\0{values.dtype.name}\0{list(values.shape)}\0"
        running.update(about.encode())
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        running.update(little.reshape(-1).view(np.uint8).data)
    return int.from_bytes(running.digest(), "little") or 1
