"""Fit a detector, score with it, save and load it.

All checks, chunks and device moves are here, for all detectors. A file is safetensors: the arrays,
and the rest as JSON in its header. Nothing in it is ever imported or executed; the detector is
looked up in the registry by its name.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.checks import check_axes, check_fit_rows
from latentood.detectors.registry import detector
from latentood.errors import DataError, DetectorError, StoreError
from latentood.files import new_file
from latentood.latents import CHUNK_ROWS, HEAD, Latents

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
    needs = detector.needs()
    if device is not None:
        train = train.to(device)
        val = None if val is None else val.to(device)
    if needs.val:
        val = detector.val_rows(val)
    for rows, keys in ((train, needs.fit), (val, needs.val)):
        if keys and rows is not None:
            check_fit_rows(detector.name, rows, keys)
    with torch.inference_mode():
        train.gather(detector.statistics())
        state = _settled(detector.fit(train, val))
    known = [key for key in needs.score if key in train and key != HEAD]
    fitted = Fitted(
        detector=detector,
        state=state,
        widths={key: train.shape(key)[1:] for key in known},
        origin=train.origin,
        provenance={
            "fit": {"split": train.name, "rows": len(train), "origin": train.origin},
            "val": None if val is None else {"split": val.name, "rows": len(val)},
            "diagnostics": detector.diagnostics(state),
            "versions": dict(_versions()),
        },
    )
    fitted.provenance["diagnostics"] |= detector.measure(state, fitted.prepare)
    return fitted


@dataclass(frozen=True, eq=False)
class Fitted:
    """A detector with its state: all that is needed to score.

    Attributes:
        detector: The hyperparameters.
        state: Named tensors.
        widths: key → shape of one row, of the arrays it scores, where the fit split had them.
        origin: Identity of the fit split.
        provenance: Where it comes from: fit rows, diagnostics, versions.
    """

    detector: Detector
    state: State
    widths: Shapes = field(default_factory=dict)
    origin: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device | None:
        """Device of the state; None for a detector without state, which follows the rows."""
        return next((tensor.device for tensor in self.state.values()), None)

    @cached_property
    def _prepared(self) -> Any:
        with torch.inference_mode():
            return self.detector.prepare(self.state)

    def prepare(self) -> Any:
        """Build what scoring needs, such as an index, now rather than with the first rows.

        Fitted detectors of a sweep that are all prepared first share more work.
        """
        return self._prepared

    def score(self, latents: Latents) -> Tensor:
        """Score rows, a chunk at a time.

        Rows the detector was fitted on are recognised by their origin: a detector that keeps a
        bank does not match them with themselves.

        Args:
            latents: Rows with at least the declared arrays; labels are never read.

        Returns:
            (N,) float64 on the CPU, higher = more OOD.

        Raises:
            MissingInput: A declared array is not there.
            DataError: There are no rows, or a value is not finite (names the row).
            DetectorError: An array has another width than the fit rows had.
        """
        keys = self.detector.needs().score
        latents.require(keys, who=self.detector.name)
        if len(latents) == 0:
            raise DataError(f"{latents.name}: there are no rows to score; give at least one")
        check_axes(self.detector.name, latents, keys)
        self._check_widths(latents)
        if self.device is not None:
            latents = latents.to(self.device)
        with torch.inference_mode():
            return torch.cat(
                [self._score_chunk(c) for c in latents.chunks(keys, self._rows(latents))]
            )

    def save(self, path: str | Path) -> None:
        """Write arrays and JSON to one safetensors file (nothing is pickled).

        Raises:
            StoreError: The folder does not exist or cannot be written.
        """
        file = Path(path)
        # A tensor may be a view into a larger one or share it; the file holds a copy of each.
        state = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state.items()
        }
        header = {
            "schema": SCHEMA,
            "detector": self.detector.name,
            "hyperparameters": self.detector.hyperparameters(),
            "widths": self.widths,
            "origin": self.origin,
            "provenance": self.provenance,
            "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
            "digest": _digest(state),
        }
        try:
            with new_file(file) as draft:
                save_file(state, draft, metadata={_FIELD: json.dumps(header)})
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{file}: must be in a folder that can be written, got {error}; choose another path"
            ) from error

    def _score_chunk(self, chunk: Latents) -> Tensor:
        chunk.require_finite()
        scores = self.detector.score(self._prepared, chunk)
        if scores.shape != (len(chunk),) or scores.dtype != torch.float64:
            raise DetectorError(
                f"{self.detector.name}: score must return ({len(chunk)},) float64, got "
                f"{tuple(scores.shape)} {scores.dtype}; mend the detector"
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

    def _check_widths(self, latents: Latents) -> None:
        for key, expected in self.widths.items():
            given = latents.shape(key)[1:]
            if given != expected:
                raise DetectorError(
                    f"{self.detector.name}: {key} must have rows of shape {expected} as in the fit "
                    f'rows, got {given} in "{latents.name}"; score latents of the same model and '
                    "layer"
                )


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


_FIELD = "latentood"

_PARTS: dict[str, type] = {
    "detector": str,
    "hyperparameters": dict,
    "widths": dict,
    "origin": str,
    "provenance": dict,
    "shapes": dict,
    "digest": str,
}

SCHEMA = 1


def _read(path: Path) -> tuple[dict[str, Any], State]:
    """Read header and arrays, and check that they belong together."""
    if not path.is_file():
        raise StoreError(f"{path}: must be a file that Fitted.save wrote, but there is none")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_FIELD, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise _not_ours(path, f"a file that cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _not_ours(path, "a safetensors file of something else")
    schema = header.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise StoreError(
            f"{path}: schema must be ≤ {SCHEMA}, got {schema!r}; upgrade latentood, or fit and "
            "save again with this one"
        )
    missing = [part for part, kind in _PARTS.items() if not isinstance(header.get(part), kind)]
    if missing:
        raise _not_ours(path, f"a header without {', '.join(missing)}")
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if header["shapes"] != shapes or header["digest"] != _digest(state):
        raise _not_ours(path, "arrays that are not those it was written with")
    return header, state


def _digest(state: State) -> str:
    """SHA-256 over names, types and bytes of all arrays."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype}\n".encode())
        digest.update(state[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _not_ours(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: must be a file that Fitted.save wrote, got {what}; fit and save the detector "
        "again"
    )


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
    header, state = _read(file)
    return Fitted(  # copies: tensors in the mapped file are not aligned as those of a fit are
        detector=_detector(file, header["detector"], header["hyperparameters"]),
        state={name: tensor.clone().to(device) for name, tensor in state.items()},
        widths={key: tuple(shape) for key, shape in header["widths"].items()},
        origin=header["origin"],
        provenance=header["provenance"],
    )


def _detector(path: Path, name: str, hyperparameters: dict[str, Any]) -> Detector:
    """Look the detector up in the registry, and nowhere else."""
    if "." in name:
        raise StoreError(
            f"{path}: the detector must be the name of a registered one, got {name!r}; dotted "
            "names are never imported from a file"
        )
    return detector(name, **hyperparameters)
