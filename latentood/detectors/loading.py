"""Fitted detectors from files: names are looked up in the registry, nothing is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentood.detectors.base import Detector
from latentood.detectors.fitting import Fitted
from latentood.detectors.registry import detector
from latentood.detectors.saving import read
from latentood.errors import StoreError


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
    header, state = read(file)
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
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in hyperparameters.items()}
    return detector(name, **values)
