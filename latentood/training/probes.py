"""What a network and its data are tried on before the first step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from latentood.data.targets import TargetKind
from latentood.errors import DataError, ModelError
from latentood.extraction.run.inputs import Inputs, loaded
from latentood.extraction.run.job import model_errors
from latentood.training.objectives.base import Batch, Objective

log = logging.getLogger(__name__)

_ROWS, _ROWS_OF_IMAGES = 8, 2  # a network is tried on; masks and boxes come with large images


def try_network(
    classifier: nn.Module, inputs: Inputs, objective: Objective, classes: int
) -> int | None:
    """Try a network on a few rows; give H, the width of its output, where it has one.

    Raises:
        ModelError: It is no network for the objective, or gives probabilities.
    """
    count = min(_ROWS if objective.predicts else _ROWS_OF_IMAGES, len(inputs))
    batch = Batch(*(inputs.collate or default_collate)([inputs[row] for row in range(count)]))
    with model_errors(batch.inputs[0][None]), torch.no_grad():
        output = objective.try_on(classifier, batch, classes)
    if output is None:
        return None
    sums = output.double().sum(dim=1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
        raise ModelError(
            "train: the network must give logits, got probabilities, whose sums are 1; remove "
            "the softmax at its end"
        )
    return int(output.shape[1])


def read_targets(inputs: Inputs, workers: int) -> tuple[Tensor, Tensor]:
    """Read the targets of all rows, as masks and boxes are listed nowhere.

    Returns:
        Digests of the targets (N,) int64, and how often each label stands in them (C',).

    Raises:
        DataError: A target is not what it must be, or none has a label that counts.
    """
    log.info("train: reading the targets of split %r, %d rows", inputs.name, len(inputs))
    rows = DataLoader(_Targets(inputs), batch_size=None, num_workers=workers)
    digests, counts = zip(*loaded(inputs.name, rows, workers="training.workers"), strict=True)
    total = torch.zeros(max(map(len, counts)), dtype=torch.int64)
    for one in counts:
        total[: len(one)] += one
    if not bool(total.any()):
        raise DataError(
            f"split {inputs.name!r}: some target must have a label that counts, got none in "
            f"{len(inputs)} rows; check the data set"
        )
    return torch.tensor(digests), total


def refuse_empty(counts: Tensor, *, first: int, stated: bool) -> None:
    """Refuse classes from one on that have no rows; warn where C was stated.

    Raises:
        DataError: There is one, and C was taken from the labels.
    """
    empty = [
        number for number, count in enumerate(counts.tolist()) if number >= first and not count
    ]
    if not empty:
        return
    shown = f"class {', '.join(map(str, empty[:10]))}{', …' if len(empty) > 10 else ''}"
    if stated:
        log.warning("train: %s has no rows", shown)
        return
    raise DataError(
        f"train: every class from {first} to {len(counts) - 1} must have rows to train on, got "
        f"none of {shown}; correct the labels, or set training.classes: {len(counts)} to train "
        "all the same"
    )


@dataclass(frozen=True)
class _Targets(Dataset[tuple[int, Tensor]]):
    """Digest and counts of labels of each target, so that processes send little."""

    inputs: Inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[int, Tensor]:
        target: Any = self.inputs.target(row)
        kind: TargetKind = self.inputs.kind
        parts = target.values() if isinstance(target, Mapping) else [target]
        content = b"".join(part.numpy().tobytes() for part in parts)
        digest = xxhash.xxh3_64_intdigest(content) >> 1  # 63 bits fit int64
        return digest, torch.bincount(kind.labels(target))
