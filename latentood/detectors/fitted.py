"""Fit a detector, score with it, save and load it.

All checks, chunks and device moves are here, for all detectors. A file holds the name of the
detector, which is looked up in the registry, and is never imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.checks import check_axes, check_fit_rows, check_memory, check_widths
from latentood.detectors.feature_heads import Heads, from_file, source_of, to_file, with_heads
from latentood.detectors.fitted_file import Header, not_ours, read, write
from latentood.detectors.registry import DETECTORS
from latentood.errors import (
    BadScores,
    DataError,
    DetectorError,
    LatentOODError,
    StoreError,
    one_line,
    unknown,
)
from latentood.latents import CHUNK_ROWS, HASHES, HEAD, Latents
from latentood.latents.key import Unit
from latentood.latents.rows import first_not_finite
from latentood.plugins import hyperparameters_of

Shapes = dict[str, tuple[int, ...]]
"""key → shape of one row."""

_CHUNK_ELEMENTS = 1 << 25  # of the widest array: 256 MiB in float64
_CACHED_ELEMENTS = 1 << 19  # 4 MiB in float64, which a processor's cache holds
_ALIGNMENT = 256  # rows: a shorter chunk still ends where chunks of a cache do


def fit(
    detector: Detector,
    train: Latents,
    val: Latents | None = None,
    *,
    device: torch.device | str | None = None,
) -> Fitted:
    """Fit a detector to rows; see :func:`latentood.fit`, which also takes names and caches."""
    if device is not None:
        train = train.to(device)
        val = None if val is None else val.to(device)
    val = check_fit(detector, train, val)
    with torch.inference_mode():
        train.gather(detector.statistics())
        state = _settled(detector.fit(train, val))
    known = [key for key in detector.needs().score if key in train and key != HEAD]
    fitted = Fitted(
        detector=detector,
        state=state,
        widths={key: train.shape(key)[1:] for key in known},
        origin=train.origin,
        provenance={
            "fit": {"split": train.name, "rows": len(train), "origin": train.origin}
            | ({} if train.unit == "image" else {"unit": train.unit}),
            "val": None if val is None else {"split": val.name, "rows": len(val)},
            "diagnostics": detector.diagnostics(state),
            "versions": dict(_versions()),
        },
    )
    fitted.provenance["diagnostics"] |= detector.measure(state, fitted.prepare)
    return fitted


def check_fit(detector: Detector, train: Latents, val: Latents | None) -> Latents | None:
    """Check what can be checked of a fit before rows are read, but for labels.

    Returns:
        The validation rows to fit with.

    Raises:
        MissingInput: An array, or the ID validation rows, are not there.
        DataError: There are no rows, or axes or labels that cannot be.
        DetectorError: Validation rows of another width, or more memory than is free.
    """
    needs = detector.needs()
    if needs.fit:
        check_fit_rows(detector.name, train, needs.fit)
    if needs.val:
        val = detector.val_rows(val)
        check_fit_rows(detector.name, val, needs.val)
        both = [key for key in needs.val if key in train and key != HEAD]
        check_widths(detector.name, val, {key: train.shape(key)[1:] for key in both})
    check_memory(detector, train)
    return val


@dataclass(frozen=True, eq=False)
class Fitted:
    """A detector with its state: all that is needed to score.

    Attributes:
        detector: The hyperparameters.
        state: Named tensors.
        widths: key → shape of one row, of the arrays it scores, where the fit split had them.
        origin: Identity of the fit split.
        provenance: Where it comes from: fit rows, diagnostics, versions.
        heads: Heads that were trained on features and whose arrays it reads: rows that lack these
            arrays, but have the features, are scored as well.
    """

    detector: Detector
    state: State
    widths: Shapes = field(default_factory=dict)
    origin: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    heads: Heads = field(default_factory=dict)

    @property
    def device(self) -> torch.device | None:
        """Device of the state; None for a detector without state, which follows the rows."""
        return next((tensor.device for tensor in self.state.values()), None)

    @property
    def unit(self) -> Unit:
        """What a row is that it was fitted on, and scores."""
        unit: Unit = self.provenance.get("fit", {}).get("unit", "image")
        return unit

    @cached_property
    def _prepared(self) -> Any:
        with torch.inference_mode():
            return self.detector.prepare(self.state)

    def prepare(self) -> Any:
        """Build what scoring needs, such as an index, now rather than with the first rows.

        Fitted detectors of a sweep that are all prepared first share more work.
        """
        return self._prepared

    def reads(self, latents: Latents) -> list[str]:
        """Name the arrays of these rows that scoring them reads."""
        return [source_of(key, latents, self.heads) for key in self.detector.needs().score]

    def score(self, latents: Latents) -> Tensor:
        """Score rows, a chunk at a time.

        Rows the detector was fitted on are recognised by their hashes, or without by their origin:
        a detector that keeps a bank does not match them with themselves.

        Args:
            latents: Rows with at least the declared arrays; labels are never read.

        Returns:
            (N,) float64 on the CPU, higher = more OOD.

        Raises:
            MissingInput: A declared array is not there.
            DataError: There are no rows, or a value is not finite (names the row).
            DetectorError: An array has another width than the fit rows had, or a score is not
                finite (names the row).
        """
        keys = self.detector.needs().score
        if latents.unit != self.unit:
            raise DetectorError(
                f"{self.detector.name}: must score rows of the unit it was fitted on, "
                f"{self.unit}, got {latents.unit}; fit it on these, or give "
                f"rows.members({self.unit!r})"
            )
        latents = with_heads(latents, keys, self.heads)
        latents.require(keys, who=self.detector.name)
        if len(latents) == 0:
            raise DataError(f"{latents.name}: there are no rows to score; give at least one")
        check_axes(self.detector.name, latents, keys)
        check_widths(self.detector.name, latents, self.widths)
        if self.device is not None:
            latents = latents.to(self.device)
        read = (*keys, HASHES) if HASHES in latents else keys
        with torch.inference_mode():
            return torch.cat(
                [self._score_chunk(c) for c in latents.chunks(read, self._rows(latents))]
            )

    def save(self, path: str | Path) -> None:
        """Write arrays and JSON to one safetensors file (nothing is pickled).

        Raises:
            StoreError: The folder does not exist or cannot be written.
        """
        heads, tensors = to_file(self.heads)
        header = Header(
            detector=self.detector.name,
            hyperparameters=self.detector.hyperparameters(),
            widths={key: list(shape) for key, shape in self.widths.items()},
            origin=self.origin,
            provenance=self.provenance,
            heads=heads,
        )
        write(Path(path), header, {**self.state, **tensors})

    def _score_chunk(self, chunk: Latents) -> Tensor:
        chunk.require_finite()
        scores = self.detector.score(self._prepared, chunk)
        if scores.shape != (len(chunk),) or scores.dtype != torch.float64:
            raise BadScores(
                f"{self.detector.name}: score must return ({len(chunk)},) float64, got "
                f"{tuple(scores.shape)} {scores.dtype}; mend the detector"
            )
        if (row := first_not_finite(scores)) is not None:
            raise BadScores(
                f"{self.detector.name}: scores must be finite, got {float(scores[row])} in row "
                f'{chunk.offset + row} of "{chunk.name}"; look at that row and at the scale of '
                "what is read"
            )
        return scores.cpu()

    def _rows(self, latents: Latents) -> int:
        """Rows of a chunk: few, so that its values stay in the processor's cache.

        Where each chunk goes through a bank: as many as statistics use, or as memory allows.
        """
        keys = [key for key in self.detector.needs().score if key != HEAD]
        widest = max([1, *(math.prod(latents.shape(key)[1:]) for key in keys)])
        cached = _CHUNK_ELEMENTS if self.detector.reads_bank else _CACHED_ELEMENTS
        most = min(_CHUNK_ELEMENTS, cached)
        return min(CHUNK_ROWS, max(_ALIGNMENT, most // widest // _ALIGNMENT * _ALIGNMENT))


@cache
def _versions() -> dict[str, str]:
    """Look versions up once: reading a package's metadata takes as long as a small fit."""
    return {"latentood": version("latentood"), "torch": torch.__version__}


def _settled(state: State) -> State:
    """Lay tensors out as a file does, all where the computed ones are.

    A product of the same numbers in another memory order may differ in its last bit, and small
    facts (a rank) are often made on the CPU.
    """
    devices = [tensor.device for tensor in state.values() if tensor.device.type != "cpu"]
    device = devices[0] if devices else torch.device("cpu")
    return {name: tensor.contiguous().to(device) for name, tensor in state.items()}


def load(path: str | Path, *, device: torch.device | str = "cpu") -> Fitted:
    """Read a fitted detector that :meth:`Fitted.save` wrote.

    Args:
        path: The file.
        device: Where to put the state.

    Raises:
        StoreError: No such file, not ours, damaged, or written by a newer latentood.
        UnknownName: The detector is not registered here.
        DetectorError: A hyperparameter is outside its range.
    """
    file = Path(path)
    header, arrays = read(file)
    try:
        one = _detector(file, header)
        heads, state = from_file(header.heads, arrays)
        one.diagnostics(state)  # looks at most of a state
        if header.widths.keys() - set(one.needs().score):
            raise not_ours(file, "widths of arrays that it does not read")
    except LatentOODError:
        raise
    except Exception as error:  # whatever a detector raises that finds another state than its own
        what = f"what {header.detector} cannot use ({type(error).__name__}: {one_line(error)})"
        raise not_ours(file, what) from error
    return Fitted(  # copies: tensors in the mapped file are not aligned as those of a fit are
        detector=one,
        state={name: tensor.clone().to(device) for name, tensor in state.items()},
        widths={key: tuple(shape) for key, shape in header.widths.items()},
        origin=header.origin,
        provenance=header.provenance,
        heads=heads,
    )


def _detector(file: Path, header: Header) -> Detector:
    """Look the detector up in the registry, and nowhere else."""
    if "." in header.detector:
        raise StoreError(
            f"{file}: the detector must be the name of a registered one, got "
            f"{header.detector!r}; dotted names are never imported from a file"
        )
    cls = DETECTORS[header.detector]
    known = [one.name for one in hyperparameters_of(cls)]
    for name in header.hyperparameters:
        if name not in known:
            raise unknown(f"hyperparameter of {cls.name}", name, known)
    given = header.hyperparameters
    return cls(**(cls.of_schema_1(given) if header.version == 1 else given))
