"""Fit a detector, score with it: all checks, batching and device moves in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.saving import write
from latentood.errors import DataError, DetectorError
from latentood.latents import GROUP_ROWS, HEAD, LABELS, LOGITS, Latents

Shapes = dict[str, tuple[int, ...]]
"""key → shape of one row."""

_BLOCK_ELEMENTS = 1 << 25  # of the widest array: 256 MiB in float64
_CACHED_ELEMENTS = 1 << 19  # 4 MiB in float64, which a processor's cache holds
_ALIGNMENT = 256  # rows: a shorter block still ends where chunks of a cache do
_AXES = {"labels": 1, "logits": 2, "features": 2, "mc.entropy": 2, "mc.logits": 3, "mc.features": 3}
_AXIS_NAMES = {1: "(N,)", 2: "(N, D)", 3: "(N, T, D)"}


def fit(
    detector: Detector,
    train: Latents,
    val: Latents | None = None,
    *,
    device: torch.device | str | None = None,
) -> Fitted:
    """Fit a detector.

    Args:
        detector: What to fit.
        train: Rows of the fit split.
        val: Rows of the ID validation split, for detectors that declare it.
        device: Where to compute; by default where the latents are.

    Returns:
        The fitted detector.

    Raises:
        MissingInput: An array the detector declares is not there.
        DataError: No rows, a value that is not finite, a shape or a label that cannot be.
        DetectorError: The hyperparameters do not fit these rows.
    """
    needs = detector.needs()
    if device is not None:
        train = train.to(device)
        val = None if val is None else val.to(device)
    if needs.val:
        val = detector.val_rows(val)
    for rows, keys in ((train, needs.fit), (val, needs.val)):
        if keys and rows is not None:
            _check_fit_rows(detector.name, rows, keys)
    with torch.inference_mode():
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
        """Where the state lives; None where a detector has no state and follows the rows."""
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
        """Score rows, a block at a time.

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
        _check_axes(self.detector.name, latents, keys)
        self._check_widths(latents)
        if self.device is not None:
            latents = latents.to(self.device)
        with torch.inference_mode():
            return torch.cat(
                [self._score_block(b) for b in latents.blocks(keys, self._rows(latents))]
            )

    def save(self, path: str | Path) -> None:
        """Write arrays and JSON to one safetensors file (see :mod:`latentood.detectors.saving`)."""
        header = {
            "detector": self.detector.name,
            "hyperparameters": self.detector.hyperparameters(),
            "widths": self.widths,
            "origin": self.origin,
            "provenance": self.provenance,
        }
        write(Path(path), header, self.state)

    def _score_block(self, block: Latents) -> Tensor:
        block.require_finite()
        scores = self.detector.score(self._prepared, block)
        if scores.shape != (len(block),) or scores.dtype != torch.float64:
            raise DetectorError(
                f"{self.detector.name}: score must return ({len(block)},) float64, got "
                f"{tuple(scores.shape)} {scores.dtype}; mend the detector"
            )
        return scores.cpu()

    def _rows(self, latents: Latents) -> int:
        """Rows of a block: so few that what is computed of them stays in the processor's cache.

        Where each block goes through a bank, as many as statistics use, or as memory allows.
        """
        keys = [key for key in self.detector.needs().score if key != HEAD]
        widest = max([1, *(math.prod(latents.shape(key)[1:]) for key in keys)])
        cached = _BLOCK_ELEMENTS if self.detector.reads_bank else _CACHED_ELEMENTS
        most = min(_BLOCK_ELEMENTS, cached)
        return min(GROUP_ROWS, max(_ALIGNMENT, most // widest // _ALIGNMENT * _ALIGNMENT))

    def _check_widths(self, latents: Latents) -> None:
        for key, expected in self.widths.items():
            found = latents.shape(key)[1:]
            if found != expected:
                raise DetectorError(
                    f"{self.detector.name}: {key} must have rows of shape {expected} as in the fit "
                    f'rows, got {found} in "{latents.name}"; score latents of the same model and '
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


def _check_fit_rows(who: str, rows: Latents, keys: Iterable[str]) -> None:
    rows.require(keys, who=who)
    if len(rows) == 0:
        raise DataError(f"{rows.name}: there are no rows to fit {who} on; give at least one")
    _check_axes(who, rows, keys)
    if LABELS in keys:
        _check_labels(rows)


def _check_axes(who: str, rows: Latents, keys: Iterable[str]) -> None:
    """Refuse arrays with too few or too many axes, such as feature maps that were not pooled."""
    for key in keys:
        axes = _AXES.get(key.partition("/")[0])
        if axes is not None and len(shape := rows.shape(key)) != axes:
            raise DataError(
                f"{rows.name}: {key} must be {_AXIS_NAMES[axes]} to use {who}, got {shape}; pool "
                "or reshape it first"
            )


def _check_labels(rows: Latents) -> None:
    """Refuse labels that are no class of the model."""
    labels = rows[LABELS]
    if labels.is_floating_point():
        raise DataError(f"{rows.name}: labels must be integers, got {labels.dtype}; convert them")
    classes = _class_count(rows)
    bad = (labels < 0) if classes is None else (labels < 0) | (labels >= classes)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        upper = "" if classes is None else f" and < {classes}, the number of classes"
        raise DataError(
            f"{rows.name}: labels must be ≥ 0{upper}, got {int(labels[row])} in row "
            f"{rows.offset + row}; fix the data set's labels, or fit on a split without such rows"
        )


def _class_count(rows: Latents) -> int | None:
    """Count the classes of the model, if the arrays tell."""
    if LOGITS in rows:
        return rows.shape(LOGITS)[1]
    return len(rows.head[1]) if HEAD in rows else None
