"""The arrays and splits of a cache, and the names they may have.

Values only: nothing here uses the disk, zarr or torch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentood.errors import ConfigError, DataError
from latentood.latents import Key
from latentood.latents.facts import ROLES, Role
from latentood.store.codecs import CODECS, LZ4, MANTISSA, choose_codec

SCHEMA = 2
"""Number of the format; a store with a higher one is refused, one with a lower one stays as it is.

Since 2 there is a digest for each block of each array, and it depends on where that belongs."""

_MOST_ROWS = 1 << 40
_MOST_BLOCKS = 1 << 20  # each is a file
_MOST_BLOCK_ROWS = 1 << 24
_MOST_ROW_BYTES = 1 << 31
_MOST_BLOCK_BYTES = 1 << 35  # each must fit in memory
"""Limits of an array, so that metadata from elsewhere cannot exhaust a reader."""

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")

_OMITTED = {"how": "", "keep_bits": None, "codec": LZ4, "group": 0}
"""Values of fields that the metadata leave out."""
_NAME = re.compile(r"[A-Za-z0-9_#-][A-Za-z0-9_.#-]{0,199}", re.ASCII)


def check_size(what: str, rows: int, block_rows: int, row_bytes: int) -> None:
    """Refuse numbers of rows and bytes that are no whole numbers > 0, or too large for a store."""
    held = min(rows, block_rows) * row_bytes
    for field, size, most in (
        ("rows", rows, _MOST_ROWS),
        ("block_rows", block_rows, _MOST_BLOCK_ROWS),
        ("blocks", -(-rows // block_rows), _MOST_BLOCKS),
        ("bytes of a row", row_bytes, _MOST_ROW_BYTES),
        ("bytes of a block", held, _MOST_BLOCK_BYTES),
    ):
        if size > most:
            raise ConfigError(
                f"{what}: must have {field} ≤ {most}, got {size}; change block_rows, or keep "
                "less of each row"
            )


def check_name(kind: str, name: str) -> str:
    """Refuse names that could leave the store or collide with its own files.

    A name has at most 200 of ``A-Z a-z 0-9 _ . - #``, does not start with ``.`` or ``__`` (which
    Zarr reserves), and is not ``zarr.json``. ``kind`` says what is named, e.g. ``split``.
    """
    usable = isinstance(name, str) and _NAME.fullmatch(name) is not None
    if not usable or name.startswith("__") or name.lower() == "zarr.json":
        raise ConfigError(
            f"{kind}: a name must be 1 to 200 letters, digits or any of _ . - # and not start "
            f"with a dot or two underscores, got {name!r}; rename it"
        )
    return name


def some(names: Sequence[str], most: int = 4) -> str:
    """List names for a message, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


@dataclass(frozen=True)
class ArraySpec:
    """One array of a split; ConfigError for any that no cache can hold."""

    key: Key  # e.g. features/layer3
    tail: tuple[int, ...]  # shape of one row
    dtype: str
    how: str = ""
    """How its values follow from those of the model: the reduction of a layer, the settings of a
    score. Another one makes another array."""
    keep_bits: int | None = None  # mantissa bits its values are rounded to; None keeps all
    codec: str = ""  # chosen by the content, if not given
    group: int = 0  # number of the array group it is written and committed with

    def __post_init__(self) -> None:
        key = Key.parse(self.key)
        object.__setattr__(self, "key", key)
        if key.layer:
            check_name(key.kind, key.layer)
        elif not key.axes:
            raise ConfigError(
                f"no array of a split can be called {key!r}; keep it beside the splits"
            )
        if not all(type(size) is int and size > 0 for size in self.tail):
            raise ConfigError(
                f"{self.key}: the shape of a row must be made of whole numbers > 0, "
                f"got {self.tail}; look at what the layer puts out"
            )
        if self.dtype not in DTYPES:
            raise ConfigError(
                f"{self.key}: dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}; "
                "convert it first"
            )
        most = MANTISSA.get(self.dtype, 1) - 1
        if self.keep_bits is not None and not (
            type(self.keep_bits) is int and 1 <= self.keep_bits <= most
        ):
            raise ConfigError(
                f"{self.key}: keep_bits must be from 1 to {most} for {self.dtype}, got "
                f"{self.keep_bits!r}; choose fewer bits, or null to keep them all"
            )
        if not self.codec:
            chosen = choose_codec(self.key, self.tail, self.dtype, self.keep_bits)
            object.__setattr__(self, "codec", chosen)
        if self.codec not in CODECS or type(self.how) is not str or type(self.group) is not int:
            raise ConfigError(
                f"{self.key}: codec must be one of {', '.join(CODECS)}, how a text and group a "
                f"number, got {self.codec!r}, {self.how!r} and {self.group!r}; mend the metadata"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of one row, uncompressed."""
        return math.prod(self.tail) * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """Give the array as JSON values, without those that are as usual."""
        values = asdict(self) | {"tail": list(self.tail)}
        return {
            name: v for name, v in values.items() if name not in _OMITTED or v != _OMITTED[name]
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ArraySpec:
        """Build from JSON values, checking them like any others."""
        return cls(**(_OMITTED | stored | {"tail": tuple(stored["tail"])}))


@dataclass(frozen=True)
class SplitSpec:
    """One split: its rows, their division into blocks, and its arrays.

    Arrays of one ``group`` are committed together: group 0 is that of the first run, each later
    one was added at once. ConfigError for any combination that no cache can hold.
    """

    name: str  # that of its folder, too
    role: Role
    rows: int  # N
    block_rows: int  # R, rows written and committed together; the last block may have fewer
    arrays: tuple[ArraySpec, ...]  # kept of each row
    data: dict[str, Any]  # provenance of the data set as JSON, its fingerprint included

    def __post_init__(self) -> None:
        check_name("split", self.name)
        if self.role not in ROLES:
            raise ConfigError(
                f"split {self.name!r}: role must be one of {', '.join(ROLES)}, got {self.role!r}; "
                "change it in the pipeline"
            )
        for field, size in (("rows", self.rows), ("block_rows", self.block_rows)):
            if type(size) is not int or size < 1:
                raise ConfigError(
                    f"split {self.name!r}: {field} must be a whole number > 0, got {size!r}; give "
                    "a data set that has rows"
                )
        for array in self.arrays:
            what = f"split {self.name!r}: {array.key}"
            check_size(what, self.rows, self.block_rows, array.nbytes)
        counts = Counter(spec.key for spec in self.arrays)
        twice = [key for key, count in counts.items() if count > 1]
        if twice or not self.arrays:
            raise ConfigError(
                f"split {self.name!r}: must have at least one array and each only once, got "
                f"{f'{twice[0]!r} twice' if twice else 'none'}; change the layers in the pipeline"
            )
        numbers = {spec.group for spec in self.arrays}
        if numbers != set(range(len(numbers))):
            raise ConfigError(
                f"split {self.name!r}: the groups of its arrays must be numbered from 0 without "
                f"gaps, got {sorted(numbers)}; mend the metadata"
            )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    @property
    def groups(self) -> int:
        """Number of array groups."""
        return 1 + max(spec.group for spec in self.arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of one row over all arrays, uncompressed."""
        return sum(spec.nbytes for spec in self.arrays)

    def bounds(self, block: int) -> tuple[int, int]:
        """First row of a block, and the row after its last."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.rows)

    def of_group(self, group: int) -> SplitSpec:
        """Give the split as if it had the arrays of this group alone."""
        arrays = tuple(replace(spec, group=0) for spec in self.arrays if spec.group == group)
        return replace(self, arrays=arrays)

    def grown(self, arrays: Sequence[ArraySpec]) -> SplitSpec:
        """Give the split with these arrays as one more group."""
        added = tuple(replace(spec, group=self.groups) for spec in arrays)
        return replace(self, arrays=self.arrays + added)

    def to_json(self) -> dict[str, Any]:
        """Give the split as JSON values."""
        return asdict(self) | {"arrays": [spec.to_json() for spec in self.arrays]}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> SplitSpec:
        """Build from JSON values, checking them like any others."""
        arrays = tuple(ArraySpec.from_json(array) for array in stored["arrays"])
        return cls(
            stored["name"], stored["role"], stored["rows"], stored["block_rows"], arrays,
            dict(stored["data"]),
        )  # fmt: skip


def encode_ids(ids: Sequence[str], width: int) -> npt.NDArray[np.uint8]:
    """Write N ids, e.g. file names, as (N, width) UTF-8 padded with zeros.

    Names that are not valid Unicode are kept.

    Raises:
        DataError: An id is longer than that, or holds a zero character.
    """
    encoded = [text.encode("utf-8", "surrogateescape") for text in ids]
    for text, raw in zip(ids, encoded, strict=True):
        if len(raw) > width or b"\0" in raw:
            raise DataError(
                f"ids: each must have at most {width} bytes of UTF-8 and no zero character, got "
                f"{text!r} with {len(raw)}; shorten it or extract with a wider ids array"
            )
    return np.array(encoded, dtype=f"S{width}").view(np.uint8).reshape(len(encoded), width)


def decode_ids(rows: npt.NDArray[np.uint8]) -> list[str]:
    """Read ids back from their (N, L) bytes."""
    texts = np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel().tolist()
    return [raw.decode("utf-8", "surrogateescape") for raw in texts]
