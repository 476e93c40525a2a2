"""Tuning sets made of the features of ID val rows, which no network has seen.

``gaussian``: every feature on its own from a normal distribution with the mean and the standard
deviation of the ID val rows: what features have in common is lost. ``uniform``: every feature on
its own, uniformly between the smallest and the largest value of the ID val rows. ``mixup``: the
mean of two ID val rows of different classes, by their labels or, without these, by the predictions
(with weights of ½, where Zhang et al. 2018, arXiv:1710.09412, draw them, and mix inputs). Features
that are never negative in the ID val rows are not negative here. There are as many rows as ID val
rows.

Logits are those of the cached head, so that they belong to the penultimate features. Nothing else
follows from features: features of several layers do not belong to each other, and there are no
passes, no scores of taps, no outputs of other heads. Detectors that read any of these are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from latentood.detectors.base import Detector
from latentood.errors import DataError, DetectorError
from latentood.latents import HEAD, LABELS, LOGITS, PENULTIMATE_FEATURES, Key, Latents
from latentood.latents.rows import Rows

Draw = Callable[[Tensor, torch.Generator], Tensor]


class Lazy:
    """Rows that are computed when they are first read, and kept."""

    def __init__(self, shape: tuple[int, ...], compute: Callable[[], Tensor]) -> None:
        self.shape = shape
        self._compute = compute
        self._rows: Tensor | None = None

    def read(self, start: int, stop: int) -> Tensor:
        """Give rows ``start`` to ``stop``."""
        if self._rows is None:
            self._rows = self._compute()
        return self._rows[start:stop]


def synthetic_rows(how: str, val: Latents, seed: int) -> Latents:
    """Make OOD rows of ID val rows: features of every layer, and logits where there is a head.

    Raises:
        DataError: Mixup has rows of one class alone, or neither labels nor logits.
    """
    rows: dict[Key, Rows] = {}
    pairs = _pairs(val, seed) if how == "mixup" else None
    for key in val.keys():  # noqa: SIM118
        if key.kind == "features" and key.unit == "image":
            rows[key] = Lazy(val.shape(key), _drawing(how, val, key, seed, pairs))
    if HEAD in val and PENULTIMATE_FEATURES in rows:
        weight, bias = (part.cpu() for part in val.head)
        features = rows[PENULTIMATE_FEATURES]
        if weight.shape[1] == features.shape[1]:

            def logits() -> Tensor:
                return (features.read(0, len(val)).double() @ weight.T + bias).float()

            rows[LOGITS] = Lazy((len(val), len(bias)), logits)
    return Latents.from_rows(
        rows, head=val.head if LOGITS in rows else None, name=f"synthetic {how}", device=val.device
    )


def require_consistent(detector: Detector, where: str) -> None:
    """Refuse a detector that reads arrays whose values do not follow from features of one layer.

    Raises:
        DetectorError: Names what it reads.
    """
    reads = [Key.parse(key) for key in detector.needs().score if key != HEAD]
    features = [key for key in reads if key.kind == "features"]
    rest = [key for key in reads if key.kind not in ("features", "logits")]
    apart = features[1:] or (LOGITS in reads and features not in ([], [PENULTIMATE_FEATURES]))
    if rest or apart:
        raise DetectorError(
            f"{detector.name}: must read features of one layer, or logits and penultimate "
            f"features, to be scored on {where}, but it reads {', '.join(reads)}; tune it on a "
            "split of role tune"
        )


def _drawing(
    how: str, val: Latents, key: Key, seed: int, pairs: Tensor | None
) -> Callable[[], Tensor]:
    def draw() -> Tensor:
        features = val[key].cpu().float()
        generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(key.encode()))
        if pairs is not None:
            return (features[pairs[0]] + features[pairs[1]]) / 2
        made = _DRAWS[how](features, generator)
        return torch.where(features.amin(dim=0) >= 0, made.clamp(min=0), made)

    return draw


def _gaussian(features: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(features.shape, generator=generator)
    return features.mean(dim=0) + features.std(dim=0) * noise


def _uniform(features: Tensor, generator: torch.Generator) -> Tensor:
    low, high = torch.aminmax(features, dim=0)
    return low + (high - low) * torch.rand(features.shape, generator=generator)


_DRAWS: dict[str, Draw] = {"gaussian": _gaussian, "uniform": _uniform}


def _pairs(val: Latents, seed: int) -> Tensor:
    """Pair every row with one of another class, drawn uniformly: (2, N)."""
    if LABELS not in val and LOGITS not in val:
        raise DataError(
            f"mixup: {val.name} must have labels or logits, which say the class of a row, got "
            f"{', '.join(val.keys())}; choose another --synthetic set"
        )
    classes = (val[LABELS] if LABELS in val else val[LOGITS].argmax(dim=1)).cpu().long()
    order = classes.argsort(stable=True)
    ordered = classes[order]
    first = torch.searchsorted(ordered, ordered)
    others = len(ordered) - (torch.searchsorted(ordered, ordered, right=True) - first)
    if bool((others == 0).any()):
        raise DataError(
            f"mixup: {val.name} must have rows of ≥ 2 classes, got 1; choose another --synthetic "
            "set"
        )
    generator = torch.Generator().manual_seed(seed)
    step = (torch.rand(len(ordered), generator=generator, dtype=torch.float64) * others).long()
    # Counted from the end of the own class onward, and around: never a row of the own class.
    partner = (first + (len(ordered) - others) + step) % len(ordered)
    return torch.stack([order, order[partner]])
