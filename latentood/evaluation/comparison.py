"""The results of a comparison of detectors, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentood.detectors.base import Detector
from latentood.errors import LatentOODError, one_line, place_of
from latentood.evaluation.contrast import Side
from latentood.evaluation.inputs.overlap import Overlap
from latentood.evaluation.members.maps import Scale
from latentood.evaluation.metrics import Array, ClassMetrics, accuracy
from latentood.evaluation.metrics.predictions import Predictions
from latentood.evaluation.truth import Truth
from latentood.evaluation.uncertainty.clustered_metrics import Estimate
from latentood.evaluation.warnings import few_rows
from latentood.latents import LOGITS, Key
from latentood.latents.facts import OOD_ROLES
from latentood.latents.key import Unit

Classes = NDArray[np.int64]
"""(N,) class numbers."""

NO_CLASS = -1
"""The class number of a row without label or prediction."""

WRONG = "wrong"
"""The role of ID rows that the model classifies wrong, beside those it classifies right."""


@dataclass(frozen=True)
class Row:
    """One detector × layer × OOD split: a line of the results file.

    Metrics are those of :mod:`latentood.metrics`, each with its 95% interval from ``low`` to
    ``high``; ``aupr_out_at`` is at the share of OOD that the comparison was asked for.
    ``fit_seconds`` leaves out the statistics gathered for all detectors in one read;
    it includes what is built once to score, such as an index. ``score_seconds`` is the time for
    this OOD split's rows, without reading them; detectors of a sweep share work, which counts
    for the first of them.
    """

    detector: str
    layer: str
    split: str
    role: str
    n_id: int
    n_ood: int
    auroc: float
    auroc_low: float
    auroc_high: float
    aupr_out: float
    aupr_out_low: float
    aupr_out_high: float
    aupr_in: float
    aupr_in_low: float
    aupr_in_high: float
    fpr95_ood: float
    fpr95_ood_low: float
    fpr95_ood_high: float
    fpr95_id: float
    fpr95_id_low: float
    fpr95_id_high: float
    detection_error: float
    detection_error_low: float
    detection_error_high: float
    aupr_out_at: float
    aupr_out_at_low: float
    aupr_out_at_high: float
    autc: float
    autc_low: float
    autc_high: float
    fit_seconds: float
    score_seconds: float
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True)
class Average:
    """The AUROC averaged over all OOD splits of one role, each with equal weight."""

    role: str
    auroc: float
    auroc_low: float
    auroc_high: float


@dataclass(frozen=True)
class Cost:
    """What a detector takes, beside what all detectors share."""

    fit_seconds: float
    us_per_row: float  # microseconds to score one row, without reading it
    state_bytes: int  # of its fitted state
    cache_bytes_per_row: int  # of the arrays that it reads to score, before compression


@dataclass(frozen=True)
class Selective:
    """What the model gets wrong if a detector rejects the rows with the highest scores.

    Metrics of :mod:`latentood.evaluation.metrics.selective`, on the labelled rows of the ID split.
    """

    aurc: float
    excess_aurc: float
    augrc: float
    scod: Mapping[str, float]
    """OOD split → AURC of ID and OOD rows together, where an OOD row that is accepted is wrong."""


@dataclass(frozen=True)
class ScoredSplit:
    """A split that was scored: its rows, their labels and the predictions of the model."""

    name: str
    role: str
    ids: Sequence[str]  # (N,)
    labels: Classes  # (N,)
    predictions: Classes  # (N,)
    truth: Truth
    images: Sequence[str] = ()  # names of the images that members are of
    outputs: Predictions | None = None  # of its labelled rows; of the ID split alone

    @property
    def accuracy(self) -> float | None:
        """Share of labelled rows that the model classifies right, if it can be known."""
        known = self.known
        return accuracy(self.predictions[known], self.labels[known]) if known.any() else None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have a label and a prediction: (N,)."""
        known: NDArray[np.bool_] = (self.labels != NO_CLASS) & (self.predictions != NO_CLASS)
        return known

    def side(self, scores: Array) -> Side:
        """Put the scores of its rows beside what these are."""
        return Side(scores, self.truth)


@dataclass(frozen=True)
class Request:
    """A requested detector: its name, its layer and its hyperparameters."""

    detector: str
    layer: str
    hyperparameters: Mapping[str, Any]

    @classmethod
    def of(cls, detector: Detector) -> Request:
        """Describe a detector: by its layers, or else by ``mc.logits`` or ``logits``."""
        keys = [Key.parse(key) for key in detector.needs().score]
        layers = [key.source for key in keys if key.layer]
        passes = (key for key in keys if key.of_passes)
        layer = "+".join(layers) or next(passes, LOGITS)
        return cls(detector.name, str(layer), detector.hyperparameters())


@dataclass(frozen=True)
class Standing:
    """How a detector compares with the best one, by a paired test on the same rows.

    The p-value is two-sided and corrected for the number of detectors (Holm 1979); there is none
    for the best one itself.
    """

    best: bool  # the best one, or not distinguishable from it at the 5% level
    p_value: float | None


@dataclass(frozen=True)
class Result:
    """One detector × layer: its scores of every split and their metrics."""

    request: Request
    scores: Mapping[str, Array]  # split → (N,)
    fit_seconds: float
    score_seconds: Mapping[str, float]  # split → seconds
    rows: tuple[Row, ...]
    averages: Mapping[str, Average]  # role → average
    provenance: Mapping[str, Any] = field(default_factory=dict)
    wrong: Row | None = None  # right predictions of the ID split as ID, wrong ones as OOD
    open_set: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Mixed split → open-set metrics, of boxes; the threshold keeps 95% of the ID boxes of the ID
    split, or without one of the split to calibrate on."""
    components: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Mixed split → metrics of connected components, of pixels."""
    selective: Selective | None = None  # where predictions of the ID split can be wrong
    classes: Mapping[str, Mapping[int, ClassMetrics]] = field(default_factory=dict)
    """OOD split → class of the ID split → its metrics, for images that have labels."""
    cost: Cost | None = None
    samples: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    """OOD split → metric → its value for every bootstrap sample (B,), of independent rows."""
    estimates: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """OOD split → metric → what each image adds to it, of members."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """What is compared → how it stands against the best of the comparison: ``auroc``, the mean that
    detectors are ranked by, ``auroc.near`` and alike for the average of a role, and other metrics
    as the mean over OOD splits."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Its warnings, one sentence each."""
        return tuple(self.provenance.get("warnings", ()))

    @property
    def best(self) -> bool:
        """Whether it has the best mean AUROC, or cannot be told from the one that has."""
        standing = self.standings.get("auroc")
        return standing is not None and standing.best

    @property
    def mean_auroc(self) -> float:
        """The mean of the near and far averages: what tables are sorted by."""
        return sum(a.auroc for a in self.averages.values()) / len(self.averages)

    @property
    def total_score_seconds(self) -> float:
        """Seconds spent on scoring all splits."""
        return sum(self.score_seconds.values())


@dataclass(frozen=True)
class Unscored:
    """A detector without scores, and why."""

    request: Request
    reason: str
    error: str = ""  # type of the error, if there was one
    place: str = ""  # the line that raised it

    @classmethod
    def of(cls, request: Request, error: Exception) -> Unscored:
        """Describe an error; one that was not raised on purpose by its type and place as well."""
        kind, place = type(error).__name__.lstrip("_"), place_of(error)  # torch: _LinAlgError
        if isinstance(error, LatentOODError):
            return cls(request, str(error), kind, place)
        what = f"{kind} at {place} ({one_line(error)})"
        advice = "score it alone with --verbose for the traceback"
        return cls(request, f"{request.detector}: stopped by {what}; {advice}", kind, place)


@dataclass(frozen=True)
class Comparison:
    """Many detectors on the same rows.

    ``failed`` are detectors that raised an error; ``skipped`` those that ``all`` stands for, and
    whose inputs are not there or that cannot be used on these rows. ``shared_seconds`` holds what
    was done once for all: ``gather`` (statistics of the fit split) and ``read`` (rows to score).
    """

    splits: tuple[ScoredSplit, ...]  # ID first
    results: tuple[Result, ...]
    failed: tuple[Unscored, ...]
    skipped: tuple[Unscored, ...]
    shared_seconds: Mapping[str, float]
    provenance: Mapping[str, Any]
    overlaps: tuple[Overlap, ...] = ()  # rows that stand in several splits

    @property
    def rows(self) -> tuple[Row, ...]:
        """All lines of the results file."""
        return tuple(row for result in self.results for row in result.rows)

    @property
    def id_split(self) -> ScoredSplit | None:
        """The ID split; there may be none beside a mixed one."""
        return id_split_of(self.splits)

    @property
    def ood_splits(self) -> tuple[ScoredSplit, ...]:
        """The splits with OOD rows: near, far and mixed ones."""
        return tuple(split for split in self.splits if split.role in OOD_ROLES)

    @property
    def unit(self) -> Unit:
        """What a score is about."""
        return self.splits[0].truth.unit

    def sides(self, result: Result) -> dict[str, tuple[Array, Array]]:
        """Give the ID and the OOD scores that are compared for each split with OOD rows."""
        shared: dict[Side, Array] = {}  # one array for the ID scores of one split
        sides = {}
        for split, ids, oods in pairs_of(self.splits, result.scores):
            known = shared.setdefault(ids, ids.of(False))
            sides[split.name] = known, oods.of(True)
        return sides

    def scale(self, result: Result, split: str) -> Scale:
        """Give the scale of the maps of a split of cells: that of the metrics of its pixels."""
        sides = {one.name: ids for one, ids, _ in pairs_of(self.splits, result.scores)}
        own = (one.side(result.scores[split]) for one in self.splits if one.name == split)
        return (sides.get(split) or next(own)).scale

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the splits, one sentence each."""
        counts = ((split.name, len(split.labels)) for split in self.splits)
        return (*map(str, self.overlaps), *few_rows(counts))

    @property
    def ranked(self) -> tuple[Result, ...]:
        """The results, best mean AUROC first; before others those it cannot be told from."""
        return tuple(sorted(self.results, key=lambda one: (not one.best, -one.mean_auroc)))

    def title(self, request: Request) -> str:
        """Name a detector, as ``knn k=50`` where a grid scores it several times on a layer."""
        every = [result.request for result in self.results]
        return title_of(request, [*every, *(failure.request for failure in self.failed)])


def title_of(request: Request, every: Sequence[Request]) -> str:
    """Name a detector by itself and by the hyperparameters in which others on its layer differ."""
    there = (request.detector, request.layer)
    tried = [one.hyperparameters for one in every if (one.detector, one.layer) == there]
    names = (n for n in request.hyperparameters if len({str(values[n]) for values in tried}) > 1)
    chosen = (f"{name}={request.hyperparameters[name]}" for name in names)
    return " ".join((request.detector, *chosen))


def id_split_of(splits: Sequence[ScoredSplit]) -> ScoredSplit | None:
    """Give the ID split among those that were scored, if there is one."""
    return next((split for split in splits if split.role == "id"), None)


def pairs_of(
    splits: Sequence[ScoredSplit], scores: Mapping[str, Array]
) -> Iterator[tuple[ScoredSplit, Side, Side]]:
    """Give each split with OOD rows, and the sides that hold its ID and OOD rows."""
    id_split = id_split_of(splits)
    ids = None if id_split is None else id_split.side(scores[id_split.name])
    for split in splits:
        if split.role in OOD_ROLES:
            own = split.side(scores[split.name])
            yield split, own if split.role == "mixed" or ids is None else ids, own


ROW_COLUMNS = tuple(spec.name for spec in fields(Row))
"""The columns of the results file, in order."""
