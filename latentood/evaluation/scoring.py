"""Fit many detectors from one read of the fit split, then score every split once.

The fit split is read once for the statistics of all detectors, and what a second read of it
needs stays in memory as far as a budget allows; every other split is read once for all scores, a
few thousand rows at a time. A detector that fails, in whatever way, is recorded; the others go on.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch

from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted, check_fit, fit
from latentood.device import default_memory, free_memory
from latentood.errors import (
    BadScores,
    ConfigError,
    DataError,
    DetectorError,
    LatentOODError,
    StoreError,
    UnknownName,
    one_line,
)
from latentood.evaluation.comparison import (
    NO_CLASS,
    Classes,
    Comparison,
    Cost,
    Request,
    Result,
    ScoredSplit,
    Unscored,
)
from latentood.evaluation.contrast import Measures
from latentood.evaluation.inputs.overlap import overlaps, require_apart
from latentood.evaluation.inputs.roles import Roles, require_inputs
from latentood.evaluation.inputs.transfer import admit
from latentood.evaluation.measuring import measure
from latentood.evaluation.metrics import Array
from latentood.evaluation.metrics.predictions import Predictions
from latentood.evaluation.provenance import provenance_of
from latentood.evaluation.standing import with_standings
from latentood.evaluation.truth import ImageScore, Truth, image_scores
from latentood.latents import HASHES, HEAD, LABELS, LOGITS, Latents
from latentood.latents.key import Unit
from latentood.latents.memo import memory_of
from latentood.latents.rows import Budget
from latentood.latents.splits import MemberSplits, Splits

log = logging.getLogger(__name__)

_ID_ROLES = ("id", "mixed")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Measure = Callable[..., Result]
"""Turns the scores of one detector into a result, as :func:`~.measuring.measure` does."""


def score_all(
    splits: Splits,
    detectors: Sequence[Detector] = (),
    *,
    fitted: Sequence[Fitted] = (),
    any_cache: bool = False,
    skipped: Sequence[Unscored] = (),
    optional: Sequence[Detector] = (),
    device: torch.device | str | None = None,
    memory: int | None = None,
    allow_overlap: bool = False,
    unit: Unit = "image",
    image_score: ImageScore | None = None,
    measured: Measure | None = None,
    prevalence: float = 0.5,
    progress: Progress | None = None,
) -> Comparison:
    """Fit detectors, score all ID and OOD splits, and compare.

    The arguments are those of :func:`latentood.score`, already resolved. Detectors that raised an
    error are in ``failed`` of the comparison; ``skipped`` is recorded as it is, and those of the
    ``optional`` detectors that cannot be used on these rows are added. ``memory`` is in bytes; by
    default a quarter of what is free, at most 4 GiB. ``measured`` turns scores into a result; by
    default with all metrics and their intervals.

    Raises:
        DetectorError: All detectors are optional, and none can be used.
        ConfigError: There is no detector; not exactly one split of role ``fit``, to fit, and of
            ``id``, beside ``near`` and ``far``; more than one ``val``; neither ``near`` nor ``far``
            nor ``mixed``; a scored split most of whose rows also stand in another one; or scores
            of images are asked to be made of scores of images.
        FingerprintMismatch: A fitted detector belongs to another run.
        StoreError: The cache cannot be read.
    """
    if not (detectors or fitted):
        raise ConfigError("score: must have at least one detector, got none; name one")
    _check_units(unit, image_score, fitted)
    admitted = [admit(one, splits, any_cache=any_cache) for one in fitted]
    members = MemberSplits(splits, unit)
    session = _Session(
        members,
        Roles.of(members, fits=bool(detectors)),
        torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        Budget(default_memory() if memory is None else memory),
        progress or (lambda *_: None),
    )
    roles, counted = session.roles, overlaps(splits)
    if not allow_overlap:
        require_apart(counted, roles.scored, who="score")
    runs = [_Run(detector, optional=detector in optional) for detector in detectors]
    session.require_both_sides(unit if image_score is None else "image")
    session.fit(runs)
    runs += [_Run(one.detector, one) for one in admitted]
    session.prepare(runs)
    scored = tuple(session.score(runs, name) for name in session.names)
    if image_score is not None:
        for run in runs:
            run.summarise(scored, image_score)
        scored = tuple(session.images(name) for name in session.names)
    results = _results(runs, scored, measured, prevalence)
    left_out = [run.skipped for run in runs if run.skipped]
    if len(left_out) == len(runs):
        raise DetectorError(f"score: no detector can be used; the first: {left_out[0].reason}")
    return Comparison(
        splits=scored,
        results=results,
        failed=tuple(run.failed for run in runs if run.failed),
        skipped=(*skipped, *left_out),
        shared_seconds=session.shared_seconds,
        provenance=provenance_of(splits, session.device)
        | {"memory": session.memory, "overlaps": [asdict(overlap) for overlap in counted]}
        | {"unit": unit, "image_score": image_score, "prevalence": prevalence},
        overlaps=counted,
    )


@dataclass
class _Run:
    """The state of one detector during a comparison; it may be fitted from the start."""

    detector: Detector
    fitted: Fitted | None = None
    optional: bool = False  # whether it is left out where it cannot be used
    failed: Unscored | None = None
    skipped: Unscored | None = None
    fit_seconds: float = 0.0
    score_seconds: dict[str, float] = field(default_factory=dict)  # split → seconds
    scores: dict[str, list[Array]] = field(default_factory=dict)  # split → one array per chunk
    scored: int = 0  # rows
    row_bytes: int = 0  # of the arrays that are read to score a row

    @property
    def request(self) -> Request:
        return Request.of(self.detector)

    @property
    def going(self) -> bool:
        """Whether nothing went wrong so far."""
        return self.failed is None and self.skipped is None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Record any error of this detector; what is wrong with the cache concerns all."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            unscored = Unscored.of(self.request, error)
            unusable = isinstance(error, DetectorError) and not isinstance(error, BadScores)
            if self.optional and unusable:
                self.skipped = unscored
            else:
                self.failed = unscored
            what = "skipped" if self.skipped else "failed"
            unforeseen = not isinstance(error, LatentOODError)
            log.info("%s: %s", what, unscored.reason, exc_info=unforeseen)

    def score(self, split: str, chunk: Latents) -> None:
        """Score some rows of a split, unless something went wrong before."""
        if self.going and self.fitted is not None:
            with self.guarded():
                start = time.perf_counter()
                scores = self.fitted.score(chunk).numpy()
                spent = time.perf_counter() - start
                self.scores.setdefault(split, []).append(scores)
                self.scored += len(scores)
                self.row_bytes = self.row_bytes or _row_bytes(chunk, self.fitted.reads(chunk))
                self.score_seconds[split] = self.score_seconds.get(split, 0.0) + spent

    def summarise(self, splits: tuple[ScoredSplit, ...], how: ImageScore) -> None:
        """Turn the scores of members into those of images."""
        if self.going and self.fitted is not None:
            with self.guarded():
                for split in splits:
                    whole = np.concatenate(self.scores[split.name])
                    self.scores[split.name] = [image_scores(whole, split.truth, how)]

    def finish(self, splits: tuple[ScoredSplit, ...], measured: Measure) -> Result | None:
        """Turn the scores into a result, if there are any."""
        if self.going and self.fitted is not None:
            with self.guarded():
                result = measured(
                    self.request,
                    splits,
                    {name: np.concatenate(parts) for name, parts in self.scores.items()},
                    fit_seconds=self.fit_seconds,
                    score_seconds=self.score_seconds,
                    provenance=self.fitted.provenance,
                )
                return replace(result, cost=self._cost(self.fitted))
        return None

    def _cost(self, fitted: Fitted) -> Cost:
        return Cost(
            self.fit_seconds,
            1e6 * sum(self.score_seconds.values()) / max(self.scored, 1),
            sum(values.numel() * values.element_size() for values in fitted.state.values()),
            self.row_bytes,
        )


class _Session:
    """The splits of one comparison, each opened once, and the time spent on reading them."""

    def __init__(
        self,
        splits: MemberSplits,
        roles: Roles,
        device: torch.device,
        budget: Budget,
        progress: Progress,
    ) -> None:
        self.splits = splits
        self.roles = roles
        self.device = device
        self.rows = roles.open(splits, device)
        self.budget = budget
        self.report = progress
        self.shared_seconds = {"gather": 0.0, "read": 0.0}
        self.memory = {"budget": budget.limit, "kept": 0}
        self.truths: dict[tuple[str, Unit], Truth] = {}
        for split in (roles.fit, roles.val):  # the others are read once anyway
            if split is not None:
                self.rows[split] = self.rows[split].within(budget)

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are scored: without ID boxes a threshold comes from the val split."""
        val = self.roles.val
        if self.splits.unit != "box" or self.roles.id is not None or val is None:
            return self.roles.scored
        return (val, *self.roles.scored)

    def fit(self, runs: Sequence[_Run]) -> None:
        """Fit all detectors, after one shared read of the fit split."""
        if self.roles.fit is None:
            return
        train = self.rows[self.roles.fit]
        val = None if self.roles.val is None else self.rows[self.roles.val]
        for run in runs:
            with run.guarded():
                require_inputs(run.detector, self.rows, self.roles)
                check_fit(run.detector, train, val)
        ready = [run for run in runs if run.going]
        start = time.perf_counter()
        gather(train, [run.detector for run in ready])
        self.shared_seconds["gather"] = self._since(start)
        for done, run in enumerate(ready, start=1):
            with run.guarded():
                start = time.perf_counter()
                run.fitted = fit(run.detector, train, val)
                run.fit_seconds = self._since(start)
            self.report("fit", done, len(ready))
        self.memory["kept"] = self.budget.used

    def prepare(self, runs: Sequence[_Run]) -> None:
        """Prepare all detectors before any scores, so that siblings share an index."""
        for run in runs:
            if run.going and run.fitted is not None:
                with run.guarded():
                    require_inputs(run.detector, self.rows, self.roles, fitted=run.fitted)
                    start = time.perf_counter()
                    run.fitted.prepare()
                    run.fit_seconds += self._since(start)
        for split in (self.roles.fit, self.roles.val):
            if split is not None and split not in self.names:
                del self.rows[split]  # and what was kept of it

    def score(self, runs: Sequence[_Run], split: str) -> ScoredSplit:
        """Score a split with all detectors, reading it once."""
        rows = self.rows[split]
        keys: list[str] = [key for key in (LABELS, LOGITS, HASHES) if key in rows]
        ready = [run.fitted for run in runs if run.going and run.fitted is not None]
        keys += [key for one in ready for key in one.reads(rows)]
        labels, predictions, outputs = [], [], list[Predictions]()
        # With nothing left to score, some array must still give the number of rows.
        for chunk in self._reads(rows.chunks(keys or rows.keys()[:1])):
            labels.append(_classes(chunk, LABELS))
            predictions.append(_classes(chunk, LOGITS))
            if split == self.roles.id and LOGITS in chunk:
                outputs += _outputs(chunk, labels[-1])
            for run in runs:
                run.score(split, chunk)
            self.report(f"score {split}", chunk.offset + len(chunk) - rows.offset, len(rows))
        return ScoredSplit(
            name=split,
            role=self.splits.splits[split].role,
            ids=self._ids(self.splits, split),
            labels=np.concatenate(labels),
            predictions=np.concatenate(predictions),
            truth=self._truth(split, self.splits.unit),
            images=self._ids(self.splits.of, split),
            outputs=Predictions.join(outputs),
        )

    def require_both_sides(self, unit: Unit) -> None:
        """Check that there are ID and OOD rows to compare.

        Raises:
            DataError: A split has none of those that it is there for.
        """
        for name in self.roles.scored:
            role = self.splits.splits[name].role
            truth = self._truth(name, unit)
            for needed, state, what in ((role in _ID_ROLES, 0, "ID"), (role != "id", 1, "OOD")):
                if needed and not truth.has(state):
                    raise DataError(
                        f"{name}: a split of role {role} must have {what} {unit}s, got none among "
                        f"{truth.ood.size:,}; look at its masks or boxes and at ood: in the "
                        "pipeline"
                    )

    def images(self, split: str) -> ScoredSplit:
        """Describe the images of a split, for scores made of those of their members."""
        truth = self._truth(split, "image")
        nothing = np.full(truth.images, NO_CLASS, dtype=np.int64)
        role = self.splits.splits[split].role
        ids = self._ids(self.splits.of, split)
        return ScoredSplit(split, role, ids, nothing, nothing, truth, images=ids)

    def _truth(self, split: str, unit: Unit) -> Truth:
        """Say what the rows of a split are; read once, as checks and scores ask for it."""
        if (split, unit) not in self.truths:
            facts = self.splits.splits[split]
            self.truths[split, unit] = Truth.of(self.splits.of[split], facts.role, unit)
        return self.truths[split, unit]

    @staticmethod
    def _ids(splits: Splits, split: str) -> Sequence[str]:
        """Name the rows, by their numbers where a cache has no ids."""
        try:
            return splits.ids(split)
        except UnknownName:
            return [str(row) for row in range(len(splits[split]))]

    def _reads(self, chunks: Iterator[Latents]) -> Iterator[Latents]:
        """Yield chunks, and add up how long reading them takes."""
        while True:
            start = time.perf_counter()
            chunk = next(chunks, None)
            self.shared_seconds["read"] += self._since(start)
            if chunk is None:
                return
            yield chunk

    def _since(self, start: float) -> float:
        if self.device.type == "cuda":  # a kernel may still run after the call that began it
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def _results(
    runs: Sequence[_Run], splits: tuple[ScoredSplit, ...], measured: Measure | None, share: float
) -> tuple[Result, ...]:
    """Turn the scores of all detectors into results; with all metrics, test them as well."""
    how = measured or partial(measure, asked=Measures(share))
    results = tuple(result for run in runs if (result := run.finish(splits, how)))
    return results if measured else with_standings(splits, results)


def _check_units(unit: Unit, image_score: ImageScore | None, fitted: Sequence[Fitted]) -> None:
    if image_score is not None and unit == "image":
        raise ConfigError(
            f"score: image_score {image_score!r} must be of members, got unit image; add --unit "
            "cell or --unit box"
        )
    for one in fitted:
        if one.unit != unit:
            raise ConfigError(
                f"{one.detector.name}: must score what it was fitted on, {one.unit}s, got unit "
                f"{unit}; add --unit {one.unit}, or fit it on a cache with --unit {unit}"
            )


def gather(train: Latents, detectors: Sequence[Detector]) -> None:
    """Compute the statistics of detectors from as few reads of the fit split as possible.

    As many of them as fit in memory together. One that fails is computed again by the detectors
    that ask for it, so that each fails with its own message, and no others do.
    """
    asked = dict.fromkeys(one for detector in detectors for one in detector.statistics())
    sizes = itertools.accumulate(memory_of(one, train) for one in asked)
    free = free_memory(train.device)
    try:
        train.gather(one for one, size in zip(asked, sizes, strict=True) if size <= free)
    except StoreError:
        raise
    except Exception as error:
        log.info("a statistic of %s failed in the shared read: %s", train.name, one_line(error))


def _classes(chunk: Latents, key: str) -> Classes:
    """Give the true classes of rows, or with ``logits`` the predicted ones, where known."""
    if key not in chunk:
        return np.full(len(chunk), NO_CLASS, dtype=np.int64)
    values = chunk[key]
    return (values.argmax(dim=1) if key == LOGITS else values).cpu().numpy().astype(np.int64)


def _row_bytes(chunk: Latents, keys: Iterable[str]) -> int:
    """Give the bytes of one row of arrays, as they are stored, before compression."""
    first = (chunk.read(key, 0, 1) for key in keys if key != HEAD)
    return sum(values.numel() * values.element_size() for values in first)


def _outputs(chunk: Latents, labels: Classes) -> Iterator[Predictions]:
    """Give what metrics need of the rows whose class the model could have predicted."""
    logits = chunk.double(LOGITS).cpu().numpy()
    known = (labels >= 0) & (labels < logits.shape[1])
    if known.any():
        yield Predictions.of(logits[known], labels[known])
