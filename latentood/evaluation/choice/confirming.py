"""The one look at the rows that are reported: default and chosen settings, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from latentood.detectors.registry import detector
from latentood.evaluation.choice.gain import gain
from latentood.evaluation.choice.passes import FirstPasses
from latentood.evaluation.choice.space import PASSES, Candidate
from latentood.evaluation.comparison import Average, Comparison, Result, Row
from latentood.evaluation.scoring import Progress, score_all
from latentood.latents.key import Unit
from latentood.latents.splits import Splits


def candidate_of(name: str, described: Mapping[str, Any]) -> Candidate:
    """Build the detector that a choice describes."""
    return Candidate(detector(name, **described["settings"]), described[PASSES])


def confirm(
    splits: Splits,
    choice: Mapping[str, Any],
    *,
    unit: Unit,
    device: torch.device | str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Score the default and the chosen setting of every detector on the splits that are reported.

    Args:
        splits: All splits.
        choice: What :func:`choose` gave; nothing in it changes any more.
        unit: What a row is.
        device: Where to compute.
        memory: Bytes for arrays that were read.
        progress: Called with what is being done.
    """
    both = [
        candidate_of(name, one[which])
        for name, one in choice["detectors"].items()
        for which in ("default", "chosen")
    ]
    candidates = list(dict.fromkeys(both))
    parts = []
    for passes in dict.fromkeys(one.passes for one in candidates):
        same = [one for one in candidates if one.passes == passes]
        scored = score_all(
            splits if passes is None else FirstPasses(splits, passes),
            [one.detector for one in same],
            unit=unit,
            device=device,
            memory=memory,
            progress=progress,
        )
        parts.append(_named(scored, passes))
    first, *others = parts
    results = tuple(result for part in parts for result in part.results)
    failed = tuple(one for part in parts for one in part.failed)
    return replace(first, results=results, failed=failed) if others else first


def differences(choice: Mapping[str, Any], comparison: Comparison) -> list[dict[str, Any]]:
    """Put default and chosen settings side by side: detector × OOD split, where they differ.

    After its splits, a detector has a line for each role, with ``split`` empty, of the average
    over the splits of that role. The gain is that in AUROC.
    """
    return [
        line
        for name, one in choice["detectors"].items()
        if one["chosen"]["settings"] != one["default"]["settings"]
        or one["chosen"][PASSES] != one["default"][PASSES]
        if (old := _result(comparison, name, one["default"])) is not None
        if (new := _result(comparison, name, one["chosen"])) is not None
        for line in _lines(name, comparison, old, new)
    ]


def _lines(name: str, comparison: Comparison, old: Result, new: Result) -> Iterator[dict[str, Any]]:
    before, after = comparison.sides(old), comparison.sides(new)
    pairs: list[tuple[str, Row | Average, Row | Average]] = [
        (first.split, first, second) for first, second in zip(old.rows, new.rows, strict=True)
    ]
    pairs += [("", first, new.averages[role]) for role, first in old.averages.items()]
    for split, first, second in pairs:
        splits = [row.split for row in old.rows if split in ("", row.split)]
        splits = [one for one in splits if _role(comparison, one) == first.role]
        mixed = {one: number for number, one in enumerate(splits)}
        found = gain(
            {one: before[one] for one in splits},
            {one: after[one] for one in splits},
            "auroc",
            ids=mixed if first.role == "mixed" else None,
            independent=comparison.unit == "image",
        )
        yield {
            "detector": name,
            "split": split,
            "role": first.role,
            "default": {part: getattr(first, part) for part in _AUROC},
            "chosen": {part: getattr(second, part) for part in _AUROC},
            # Of pixels the AUROC is not that of the scores of their cells.
            "gain": asdict(replace(found, value=second.auroc - first.auroc)),
        }


def _role(comparison: Comparison, split: str) -> str:
    return next(one.role for one in comparison.splits if one.name == split)


_AUROC = ("auroc", "auroc_low", "auroc_high")


def _result(comparison: Comparison, name: str, described: Mapping[str, Any]) -> Result | None:
    wanted = candidate_of(name, described).request
    return next((one for one in comparison.results if one.request == wanted), None)


def _named(comparison: Comparison, passes: int | None) -> Comparison:
    """Write the number of passes into the settings of what was scored on some of them."""
    if passes is None:
        return comparison

    def of(result: Result) -> Result:
        settings = {**result.request.hyperparameters, PASSES: passes}
        rows = tuple(replace(row, hyperparameters=settings) for row in result.rows)
        return replace(result, request=replace(result.request, hyperparameters=settings), rows=rows)

    return replace(comparison, results=tuple(of(result) for result in comparison.results))
