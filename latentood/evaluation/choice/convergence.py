"""How the AUROC of detectors that read stochastic passes grows with their number T."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latentood.detectors.base import Detector
from latentood.errors import DetectorError
from latentood.evaluation.choice.passes import FirstPasses, passes_kept, require_each_pass
from latentood.evaluation.comparison import Average
from latentood.evaluation.inputs.roles import Roles
from latentood.evaluation.scoring import Progress, score_all
from latentood.latents import Key
from latentood.latents.splits import Splits


@dataclass(frozen=True)
class Point:
    """The AUROC of one detector on one OOD split, or of its average over a role, from T passes."""

    detector: str
    layer: str
    hyperparameters: Mapping[str, Any]
    passes: int  # T
    split: str  # empty for the average over the splits of a role
    role: str
    auroc: float
    auroc_low: float
    auroc_high: float


def convergence(
    splits: Splits,
    detectors: Sequence[Detector],
    *,
    passes: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> list[Point]:
    """Score detectors on the first T passes of a cache, for several T.

    Passes are independent draws, so the first T of them are what extraction with T passes and the
    same seed gives. Detectors are fitted on the same number of passes that they score. With all
    passes the points are those of an ordinary comparison.

    The splits are those that are reported: this shows how many passes are enough, but a number
    that is chosen by it was chosen on the rows that are then reported; the search of settings
    tries numbers of passes on tuning sets.

    Args:
        splits: Rows with the features, or the logits, of every pass.
        detectors: What to score; each must read passes.
        passes: Which T, from 2 to the number that was kept; default: all of them.
        device: Where to compute.
        memory: Bytes for arrays that were read.
        progress: Called with what is being done.

    Returns:
        Points by T, in the order of the detectors; a detector that failed for a T has none there.

    Raises:
        DetectorError: A detector does not read passes.
        MissingInput: The features of single passes were not kept.
        DataError: There are fewer passes.
    """
    fit = splits[str(Roles.of(splits).fit)]
    for one in detectors:
        if not any(Key.parse(key).of_passes for key in one.needs().score):
            raise DetectorError(
                f"{one.name}: must read stochastic passes to converge with their number, but it "
                f"reads {', '.join(one.needs().score)}; leave it out"
            )
        require_each_pass(one, fit)
    points: list[Point] = []
    for count in passes or range(2, passes_kept(fit) + 1):
        comparison = score_all(
            FirstPasses(splits, count), detectors, device=device, memory=memory, progress=progress
        )
        for result in comparison.results:
            points += _points(result.request, result.rows, result.averages.values(), count)
    return points


def _points(request: Any, rows: Any, averages: Any, passes: int) -> Iterator[Point]:
    named = request.detector, request.layer, request.hyperparameters, passes
    for one in (*rows, *averages):
        split = "" if isinstance(one, Average) else one.split
        yield Point(*named, split, one.role, one.auroc, one.auroc_low, one.auroc_high)
