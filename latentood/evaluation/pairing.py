"""Models or checkpoints side by side: the same detectors, paired where the rows are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentood.errors import ConfigError
from latentood.evaluation.comparison import Comparison, Request, Result, ScoredSplit, id_split_of
from latentood.evaluation.standing import (
    LEAST,
    MemberTests,
    RowTests,
    Weights,
    averages_of,
)
from latentood.evaluation.truth import Truth
from latentood.evaluation.uncertainty.clustered_metrics import Difference, Estimate, joined
from latentood.evaluation.uncertainty.paired import holm
from latentood.evaluation.uncertainty.predictions import accuracy_difference, quality_intervals
from latentood.evaluation.uncertainty.seeds import Spread, widened

METRICS = ("auroc", "fpr95_ood", "fpr95_id")

_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Scored:
    """A store whose splits were scored.

    Attributes:
        name: Of the store.
        comparison: Its detectors.
        hashes: Split → digest of each input (N,), or None where they are not known.
        seed: Of its masks.
        repeats: What stores that differ in the seed alone have in common; empty where not known.
    """

    name: str
    comparison: Comparison
    hashes: Mapping[str, NDArray[np.int64] | None]
    seed: int | None = None
    repeats: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """A model or checkpoint: a store, or several that repeat one extraction with other seeds."""

    stores: tuple[Scored, ...]

    @property
    def name(self) -> str:
        """The name of its first store."""
        return self.stores[0].name

    @property
    def splits(self) -> tuple[ScoredSplit, ...]:
        """What was scored, ID first."""
        return self.stores[0].comparison.splits

    def results(self, request: Request) -> tuple[Result, ...]:
        """Give the result of a detector for each store that has one."""
        every = (result for one in self.stores for result in one.comparison.results)
        return tuple(result for result in every if result.request == request)


@dataclass(frozen=True)
class SplitPair:
    """A split of a model beside that of the reference: paired where the rows are the same."""

    model: str
    split: str
    role: str
    paired: bool
    reason: str  # why it is not paired


@dataclass(frozen=True)
class Gap:
    """A metric of a model less that of the reference, with its 95% interval.

    ``p_value`` is two-sided; ``p_holm`` is corrected (Holm 1979) for the number of detectors and
    models that are compared with the reference in the same average of the same metric.
    """

    value: float
    low: float
    high: float
    p_value: float
    paired: bool
    p_holm: float = np.nan


@dataclass(frozen=True)
class Line:
    """A metric of a detector × layer on a model, averaged over OOD splits, with its 95% interval.

    Attributes:
        model: Name of the model.
        detector: Name of the detector.
        layer: What it looks at.
        hyperparameters: Its settings.
        of: ``mean``, which detectors are ranked by, or the role whose splits are averaged.
        metric: ``auroc``, ``fpr95_ood`` or ``fpr95_id``.
        value: The average, and over seeds where there are several.
        low: Of its interval.
        high: Of its interval.
        seeds: The value of each seed.
        gap: The difference to the reference; None for the reference itself.
    """

    model: str
    detector: str
    layer: str
    hyperparameters: Mapping[str, Any]
    of: str
    metric: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...]
    gap: Gap | None = None

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation over seeds; None for a single one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class ModelQuality:
    """How good the predictions of a model for its ID split are; see ``lo.metrics.quality_of``.

    ``values`` are metric → value and the ends of its 95% interval; ``gap`` is the difference of
    the accuracy to that of the reference.
    """

    model: str
    split: str
    n: int
    values: Mapping[str, tuple[float, float, float]]
    gap: Gap | None = None


@dataclass(frozen=True)
class Missing:
    """A detector that some store has no scores of, so that it is not compared there."""

    store: str
    request: Request
    reason: str


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Models side by side; the first is the reference, and each other is compared with it."""

    models: tuple[Model, ...]
    splits: tuple[SplitPair, ...]
    lines: tuple[Line, ...]
    qualities: tuple[ModelQuality, ...]
    missing: tuple[Missing, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Store → OOD splits that not all stores have under this name and role."""

    @property
    def reference(self) -> Model:
        """The model that others are compared with."""
        return self.models[0]

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """Store → the comparison of its detectors."""
        return {one.name: one.comparison for model in self.models for one in model.stores}


def models_of(stores: Sequence[Scored]) -> tuple[Model, ...]:
    """Put stores together that repeat one extraction: all is equal but the seed, rows included."""
    models: list[Model] = []
    for store in stores:
        place = next((at for at, one in enumerate(models) if _repeats(one, store)), None)
        if place is None:
            models.append(Model((store,)))
        else:
            models[place] = Model((*models[place].stores, store))
    return tuple(models)


def compare_models(
    stores: Sequence[Scored], left_out: Mapping[str, tuple[str, ...]] | None = None
) -> ModelComparison:
    """Compare the models of stores that were scored on OOD splits of the same names.

    Differences are paired where the ID rows and all OOD rows of an average are the same in both
    models: AUROC by DeLong's placements, FPR95 by the bootstrap, members by what images add.
    Otherwise the two intervals are joined as of independent rows (MOVER), which is never too short
    where scores of the two models are alike.

    Several seeds of a model are averaged, and the interval holds their spread
    (:mod:`latentood.evaluation.uncertainty.seeds`); a difference is the mean over the pairs of
    seeds, its variance within seeds the mean of theirs.

    Args:
        stores: At least two; the first is, or belongs to, the reference.
        left_out: Store → splits that are not compared.

    Raises:
        ConfigError: No detector × layer has scores in the reference and in another model.
    """
    models = models_of(stores)
    pairs = tuple(pair for other in models[1:] for pair in _split_pairs(models[0], other))
    requests = [result.request for result in stores[0].comparison.results]
    compared = [request for request in requests if _is_compared(models, request)]
    missing = tuple(_missing(stores))
    if not compared:
        first = missing[0].reason if missing else "no store has scores"
        raise ConfigError(
            "compare: at least one detector and layer must have scores in the first store and in "
            f"another one, got none; the first: {first}"
        )
    lines = [line for request in compared for line in _lines(models, pairs, request)]
    return ModelComparison(
        models, pairs, _corrected(lines), tuple(_qualities(models, pairs)), missing, left_out or {}
    )


def why_unpaired(one: Scored, other: Scored, split: str) -> str:
    """Say why the rows of a split are not the same in two stores, empty where they are."""
    if split not in other.hashes:
        return "the ID split has another name"
    hashes, others = one.hashes[split], other.hashes[split]
    if hashes is None or others is None:
        return "the inputs have no digests"
    if not np.array_equal(hashes, others):
        return "other inputs, or in another order"
    first, second = (
        next(each.truth for each in store.comparison.splits if each.name == split)
        for store in (one, other)
    )
    return "" if _same_members(first, second) else f"other {first.unit}s, or other truth"


def _same_members(one: Truth, other: Truth) -> bool:
    if one.pixels is not None and other.pixels is not None:
        parts = zip(one.pixels.parts(), other.pixels.parts(), strict=True)
        return all(torch.equal(first, second) for first, second in parts)
    same = np.array_equal(one.ood, other.ood) and np.array_equal(one.image, other.image)
    return same and one.pixels is other.pixels


def _repeats(model: Model, store: Scored) -> bool:
    first = model.stores[0]
    return (
        bool(store.repeats)
        and store.repeats == first.repeats
        and store.seed not in [one.seed for one in model.stores]
        and not any(pair.reason for pair in _split_pairs(model, Model((store,))))
    )


def _split_pairs(reference: Model, other: Model) -> Iterator[SplitPair]:
    for split in reference.splits:
        if split.role != "val":
            reason = why_unpaired(reference.stores[0], other.stores[0], split.name)
            yield SplitPair(other.name, split.name, split.role, not reason, reason)


def _is_compared(models: Sequence[Model], request: Request) -> bool:
    whole = [len(model.results(request)) == len(model.stores) for model in models]
    return whole[0] and (len(models) == 1 or any(whole[1:]))


def _missing(stores: Sequence[Scored]) -> Iterator[Missing]:
    every: list[Request] = []
    for store in stores:
        tried = [one.request for one in store.comparison.results]
        tried += [one.request for one in store.comparison.failed]
        every += [request for request in tried if request not in every]
    for store in stores:
        there = [one.request for one in store.comparison.results]
        reasons = [(one.request, one.reason) for one in store.comparison.failed]
        for request in (one for one in every if one not in there):
            reason = next((why for one, why in reasons if one == request), "was not scored")
            yield Missing(store.name, request, reason)


def _lines(models: Sequence[Model], pairs: Sequence[SplitPair], request: Request) -> Iterator[Line]:
    """Give all averages of all metrics of a detector, for all models that have it."""
    reference = _Measured(models[0], request)
    for model in models:
        one = _Measured(model, request)
        if len(one.results) < len(model.stores):
            continue
        against = None if model is models[0] else _Against(reference, one, pairs)
        for of, weights in averages_of(one.results[0].rows).items():
            for metric in METRICS:
                known = one.estimate(metric, weights)
                yield Line(
                    model.name, request.detector, request.layer, request.hyperparameters,
                    of, metric, known.value, known.low, known.high, one.values(metric, weights),
                    None if against is None else against.gap(metric, weights),
                )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Measured:
    """A detector on all stores of a model."""

    model: Model
    request: Request

    @cached_property
    def results(self) -> tuple[Result, ...]:
        return self.model.results(self.request)

    def values(self, metric: str, weights: Weights) -> tuple[float, ...]:
        return tuple(_average(result, metric, weights)[0] for result in self.results)

    def estimate(self, metric: str, weights: Weights) -> Estimate:
        """Give the mean over seeds; the interval is that of a mean of fully correlated splits."""
        value, low, high = np.mean([_average(one, metric, weights) for one in self.results], axis=0)
        spread = Spread.of(self.values(metric, weights))
        known = widened(Difference(float(value), float(low), float(high), np.nan), spread, _LEVEL)
        low, high = max(known.low, 0.0), min(known.high, 1.0)
        freedom = min(_freedom(result, weights) for result in self.results)
        return Estimate(known.value, low, high, np.zeros(0), freedom, _LEVEL)


@dataclass(frozen=True, eq=False)
class _Against:
    """A detector on a model, compared with the same on the reference."""

    reference: _Measured
    other: _Measured
    pairs: Sequence[SplitPair]

    @cached_property
    def tests(self) -> RowTests | MemberTests:
        results = (*self.reference.results, *self.other.results)
        splits = self.reference.model.splits
        return RowTests(splits, results) if results[0].samples else MemberTests(results)

    def gap(self, metric: str, weights: Weights) -> Gap:
        paired = self._is_paired(weights)
        one, other = self.reference, self.other
        if paired:
            known = self._paired(metric, weights)
        else:
            known = joined(other.estimate(metric, weights), one.estimate(metric, weights), 0.0)
        return Gap(known.value, max(known.low, -1.0), min(known.high, 1.0), known.p, paired)

    def _is_paired(self, weights: Weights) -> bool:
        name, rows = self.other.model.name, self.reference.results[0].rows
        used = [row for row in rows if row.split in weights]
        needed = set(weights) | {"id"} if any(r.role != "mixed" for r in used) else set(weights)
        there = {"id" if p.role == "id" else p.split for p in self.pairs
                 if p.model == name and p.paired}  # fmt: skip
        return needed <= there and min(min(row.n_id, row.n_ood) for row in used) >= LEAST

    def _paired(self, metric: str, weights: Weights) -> Difference:
        """Give the mean over pairs of seeds, and add the spread over seeds."""
        first, second = len(self.reference.results), len(self.other.results)
        pairs = [(first + at, place) for at in range(second) for place in range(first)]
        every = self.tests.differences(metric, weights, pairs)
        value, low, high = (
            float(np.mean([getattr(one, name) for one in every]))
            for name in ("value", "low", "high")
        )
        spreads = (Spread.of(one.values(metric, weights)) for one in (self.reference, self.other))
        spread = next(spreads).joined(next(spreads))
        return widened(Difference(value, low, high, every[0].p), spread, _LEVEL)


def _average(result: Result, metric: str, weights: Weights) -> tuple[float, float, float]:
    """Average a metric over splits, and the ends of its interval."""
    rows = [row for row in result.rows if row.split in weights]
    parts: list[tuple[Any, float]] = [(row, weights[row.split]) for row in rows]
    if metric == "auroc":
        roles = dict.fromkeys(row.role for row in rows)
        parts = [(result.averages[role], 1 / len(roles)) for role in roles]
    value, low, high = (
        float(sum(getattr(part, metric + end) * weight for part, weight in parts))
        for end in ("", "_low", "_high")
    )
    return value, low, high


def _freedom(result: Result, weights: Weights) -> float:
    """Give the degrees of freedom of an average whose rows are not paired: the fewest."""
    if result.estimates:
        return min(one.freedom for name in weights for one in result.estimates[name].values())
    rows = [row for row in result.rows if row.split in weights]
    return max(min(min(row.n_id, row.n_ood) for row in rows) - 1.0, 1.0)


def _corrected(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Correct p-values for the number of detectors and models, within each average and metric."""
    corrected = list(lines)
    for group in dict.fromkeys((line.of, line.metric) for line in lines):
        places = [at for at, line in enumerate(lines) if (line.of, line.metric) == group]
        tested = [(at, gap) for at in places if (gap := lines[at].gap) is not None]
        for (at, gap), p in zip(tested, holm([gap.p_value for _, gap in tested]), strict=True):
            corrected[at] = replace(lines[at], gap=replace(gap, p_holm=float(p)))
    return tuple(corrected)


def _qualities(models: Sequence[Model], pairs: Sequence[SplitPair]) -> Iterator[ModelQuality]:
    """Give how good predictions are; they do not depend on seeds, so those of the first store."""
    reference = id_split_of(models[0].splits)
    for model in models:
        split = id_split_of(model.splits)
        if split is None or split.outputs is None:
            continue
        quality, intervals = split.outputs.quality(), quality_intervals(split.outputs)
        values = {name: (getattr(quality, name), *ends) for name, ends in intervals.items()}
        paired = any(p.model == model.name and p.role == "id" and p.paired for p in pairs)
        gap = None if model is models[0] else _accuracy_gap(reference, split, paired)
        yield ModelQuality(model.name, split.name, quality.n, values, gap)


def _accuracy_gap(reference: ScoredSplit | None, split: ScoredSplit, paired: bool) -> Gap | None:
    """Compare accuracies; not those of members, whose predictions are alike within an image."""
    if reference is None or reference.outputs is None or split.outputs is None:
        return None
    if split.truth.unit != "image":
        return None
    one, other = split.outputs.right, reference.outputs.right
    same = paired and one.size == other.size and np.array_equal(split.labels, reference.labels)
    known = accuracy_difference(one, other, paired=same)
    return Gap(known.value, known.low, known.high, known.p, same)
