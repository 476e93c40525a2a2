"""The inputs of a split: a data set, its transform, its ids, and a fingerprint of its contents."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from latentood.data.items import NO_LABEL, split_item
from latentood.data.names import names_of
from latentood.data.targets import CLASS_NUMBERS, Boxes, Masks, TargetError, TargetKind, lists
from latentood.errors import ConfigError, DataError, one_line
from latentood.pipeline.schema import Pipeline, SplitConfig
from latentood.pipeline.sections import DataSet
from latentood.pipeline.targets import build

log = logging.getLogger(__name__)

_PROBES = 8  # items whose bytes stand for a data set's contents


@dataclass(frozen=True)
class Inputs(Dataset[tuple[Tensor, Any]]):
    """A split as a map-style data set of (input, target); most targets are the label of a class.

    Of ``source`` it uses ``size`` rows, evenly spaced, so that a few rows of a data set that is
    sorted by class still hold every class.
    """

    name: str
    source: Any  # the data set a pipeline names; items are an input or (input, label, …)
    transform: Callable[[Any], Any] | None  # None where inputs are ready
    size: int
    classes: int | None = None  # C, to check labels; None where they may be anything (OOD splits)
    input: str | None = None  # field of the input, for items that are mappings
    label: str | None = None  # field of the label, likewise
    kind: TargetKind = CLASS_NUMBERS  # what a target is
    optional: bool = False  # whether items may come without a target, then NO_LABEL

    def __len__(self) -> int:
        return self.size

    def place(self, row: int) -> int:
        """Give the index of a row in the data set."""
        return row * len(self.source) // self.size

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        """Load one row; an error names split, row and file."""
        with self._located(row):
            value, target = split_item(self.source[self.place(row)], self.input, self.label)
            kind = self._kind_of(target)
            if self.transform is not None:
                value, target = kind.transform(self.transform, value, target)
            value = _as_tensor(value)
        if row and not self.kind.lists and value.shape != self.shape:
            raise DataError(
                f"split {self.name!r}: all inputs must have the shape of row 0, "
                f"{tuple(self.shape)}, got {tuple(value.shape)} in row {row} "
                f"({self.id_of(row)}); add torchvision.transforms.{self._fitting} to the transform"
            )
        with self._located(row):
            return value, kind.read(target, value, self.classes)

    def _kind_of(self, target: Any) -> TargetKind:
        """Say what a target is: without one, that of an item without a label."""
        absent = self.optional and isinstance(target, int) and target == NO_LABEL
        return CLASS_NUMBERS if absent else self.kind

    def target(self, row: int) -> Any:
        """Load the target of one row as the data set has it, before any transform."""
        with self._located(row):
            value, target = split_item(self.source[self.place(row)], self.input, self.label)
            return self.kind.read(target, value, self.classes)

    @contextmanager
    def _located(self, row: int) -> Iterator[None]:
        """Let an error name split, row and file."""
        try:
            yield
        except TargetError as error:
            raise DataError(
                f"split {self.name!r}: {error.allowed}, got {error.got} in row {row} "
                f"({self.id_of(row)}); {error.remedy}"
            ) from None
        except Exception as error:  # whatever a reader or a transform may raise
            raise DataError(
                f"split {self.name!r}: row {row} ({self.id_of(row)}) cannot be read: "
                f"{one_line(error)}; mend or remove it"
            ) from error

    @property
    def _fitting(self) -> str:
        moves = self.kind is not CLASS_NUMBERS
        return "v2.Resize, or v2.Pad or v2.CenterCrop," if moves else "Resize"

    @property
    def collate(self) -> Callable[[Any], Any] | None:
        """How items become a batch, where torch's own way would not do."""
        return lists if self.kind.lists else None

    @cached_property
    def shape(self) -> torch.Size:
        """Shape of an input."""
        return self[0][0].shape

    def first(self, count: int) -> Any:
        """Load the first rows, at most so many: (n, …), or a list of images that may differ."""
        rows = [self[row][0] for row in range(min(count, self.size))]
        return rows if self.kind.lists else torch.stack(rows)

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of all items of the data set."""
        return names_of(self.source)

    def id_of(self, row: int) -> str:
        """Name a row so that a result leads back to its image: its file, else its number."""
        return str(self.names[self.place(row)])

    def ids(self) -> list[str]:
        """Name all rows."""
        return [self.id_of(row) for row in range(self.size)]

    def has_labels(self) -> bool:
        """Test whether items come with labels, masks or boxes."""
        target = self[0][1]
        return not (isinstance(target, int) and target == NO_LABEL)

    def fingerprint(self) -> str:
        """Digest size, ids and the inputs of a few rows; a random transform is a DataError."""
        about = repr((self.size, self.id_of(0), self.id_of(self.size - 1)))
        digest = hashlib.sha256(about.encode())
        for row in np.unique(np.linspace(0, self.size - 1, _PROBES).astype(int)).tolist():
            value, label = self[row]
            digest.update(_bytes(value))
            digest.update(_bytes(label) if isinstance(label, Tensor) else str(label).encode())
            if row == 0 and _bytes(self[0][0]) != _bytes(value):
                raise DataError(
                    f"split {self.name!r}: row 0 differs between two reads; remove random "
                    "transforms, or seed the data set"
                )
        return digest.hexdigest()

    def batches(
        self, wanted: Sequence[list[int]], *, workers: int, pin: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Load rows batch by batch, in order: ``wanted`` are the row numbers of every batch."""
        loader = DataLoader(
            self,
            batch_sampler=wanted,
            num_workers=workers,
            pin_memory=pin,  # into page-locked memory
            collate_fn=self.collate,
            # Forking after zarr or CUDA started is unsafe.
            multiprocessing_context="spawn" if workers else None,
        )
        return loaded(self.name, loader, workers="extract.workers")


def loaded(split: str, batches: Iterable[Any], *, workers: str) -> Iterator[Any]:
    """Yield batches; an error of a loader process is one line that names split and setting."""
    try:
        yield from batches
    except DataError as error:  # of a process, with its traceback in the message
        last = str(error).strip().splitlines()[-1]
        raise DataError(last.partition("DataError: ")[2] or last) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"split {split!r}: a loader process ended before its rows were read "
            f"({one_line(error)[:120]}); set {workers}: 0, or give the machine more memory"
        ) from error


def open_inputs(pipeline: Pipeline, name: str, *, limit: int | None) -> Inputs:
    """Build the data set of a split; its labels may still be anything.

    Of cells and boxes the targets are masks and boxes, where a split has any.

    Raises:
        ConfigError: Its target cannot be built.
        DataError: It has no length or no rows.
    """
    config = pipeline.splits[name]
    inputs = open_split(pipeline, name, config, limit=limit, kind=_kind(pipeline, config))
    return replace(inputs, optional=pipeline.unit != "image")


def _kind(pipeline: Pipeline, config: SplitConfig) -> TargetKind:
    """Choose what the targets of a split are."""
    if pipeline.unit == "cell":
        ignored, *more = config.ood.ignore
        remedy = "name it in ood.mask_values or ood.ignore of the split, or mend the mask"
        return Masks(ignored, (*more, *config.ood.mask_values), remedy)
    return Boxes() if pipeline.unit == "box" else CLASS_NUMBERS


def open_split(
    pipeline: Pipeline,
    name: str,
    config: DataSet,
    *,
    limit: int | None = None,
    kind: TargetKind = CLASS_NUMBERS,
) -> Inputs:
    """Build a data set of a pipeline, under any name, with targets of a kind; as above."""
    source = build(config)
    try:
        size = len(source)
    except TypeError:
        raise DataError(
            f"split {name!r}: {config.target} must have a length; wrap it as a map-style data set"
        ) from None
    if size == 0:
        raise DataError(f"split {name!r}: has no rows; check {config.target} and its args")
    size = size if limit is None else min(size, limit)
    transform = _transform(pipeline, config, source)
    return Inputs(name, source, transform, size, None, config.input, config.label, kind)


def _transform(pipeline: Pipeline, config: DataSet, source: Any) -> Callable[[Any], Any] | None:
    """Choose the split's own transform, none for inputs that are ready, else the pipeline's."""
    chain = pipeline.transform
    if "transform" in config.model_fields_set:
        chain = config.transform
    elif getattr(source, "model_space", False):
        return None
    if not chain:
        return None
    steps = [build(step) for step in chain]
    for step, spec in zip(steps, chain, strict=True):
        if not callable(step):
            raise ConfigError(
                f"transform {spec.target}: must give something callable, got {type(step).__name__}"
            )
    return Chain(steps)


@dataclass(frozen=True)
class Chain:
    """Transforms one after the other."""

    steps: Sequence[Callable[[Any], Any]]

    def __call__(self, value: Any) -> Any:
        """Apply them all."""
        for step in self.steps:
            value = step(value)
        return value


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    remedy = "look at what the data set gives"
    if type(value).__module__.startswith("PIL."):
        remedy = "add torchvision.transforms.ToTensor"
    raise TypeError(
        f"an input must be a tensor after the transform, got {type(value).__name__}; {remedy}"
    )


def hashes(inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Digest the inputs of a batch (n, …), or a list of n, on the CPU: (n,) int64.

    Each is the 64-bit XXH3 of dtype, shape and bytes, such as ``float32 (3, 32, 32)``. Equal
    inputs have equal digests; a million different ones share any with a chance of 3 · 10⁻⁸.
    """
    if not isinstance(inputs, Tensor):
        return torch.cat([hashes(one.contiguous()[None]) for one in inputs])
    kind = f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape[1:])}".encode()
    rows = inputs.reshape(len(inputs), -1).view(torch.uint8).numpy()
    digests = [xxhash.xxh3_64_intdigest(kind + row.tobytes()) for row in rows]
    return torch.from_numpy(np.array(digests, dtype=np.uint64).view(np.int64))


def _bytes(value: Tensor) -> bytes:
    return value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
