"""The results of a comparison as a report reads them, from files of this and earlier formats."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from latentood.errors import ConfigError, one_line, printable
from latentood.evaluation.comparison import Request, title_of
from latentood.latents.facts import OOD_ROLES
from latentood.report.html.scores import Name, Scores
from latentood.report.results import to_text

NEWEST = 2
"""The newest format of ``results.json`` that is known here."""

METRICS: Mapping[str, str] = {
    "auroc": "AUROC",
    "fpr95_ood": "FPR95-ood",
    "fpr95_id": "FPR95-id",
    "aupr_out": "AUPR-out",
    "aupr_in": "AUPR-in",
    "aupr_out_at": "AUPR-out at π",
    "detection_error": "detection error",
    "autc": "AUTC",
}
"""Column of the results → what people call it."""

Line = Mapping[str, Any]
"""An entry of the results: column → value."""


@dataclass(frozen=True)
class Entry:
    """What the results say of one detector × layer."""

    name: Name
    title: str  # as tables name it: knn k=50
    layer: str
    rows: Mapping[str, Line] = field(default_factory=dict)  # OOD split → metrics
    averages: Mapping[str, Line] = field(default_factory=dict)  # role → metrics
    standings: Mapping[str, Line] = field(default_factory=dict)
    """What is averaged (``auroc``, ``auroc.near``, ``fpr95_id``, …) → ``best`` and ``p_value``."""
    wrong: Line | None = None
    selective: Line = field(default_factory=dict)
    cost: Line = field(default_factory=dict)
    fitted: Line = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its title and layer."""
        return f"{self.title} · {self.layer}"

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Its hyperparameters."""
        values: Mapping[str, Any] = json.loads(self.name[2])
        return values

    @property
    def mean_auroc(self) -> float:
        """The mean of the averages over roles; NaN where there is none."""
        values = [number(one["auroc"]) for one in self.averages.values()]
        return sum(values) / len(values) if values else math.nan

    @property
    def leads(self) -> int:
        """Whether it cannot be told from the best: by the mean, else the number of such roles."""
        if "auroc" in self.standings:
            return int(bool(self.standings["auroc"]["best"]))
        return sum(bool(one.get("best")) for one in self.standings.values())

    def mean(self, metric: str) -> float:
        """Average a metric over the OOD splits, each with equal weight; NaN where it is not."""
        values = [number(row.get(metric)) for row in self.rows.values()]
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Document:
    """A results folder: what ``results.json`` says, and the table of scores."""

    folder: Path
    facts: Mapping[str, Any]
    scores: Scores

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the numbers come from."""
        values: Mapping[str, Any] = self.facts["provenance"]
        return values

    @property
    def unit(self) -> str:
        """What a score is about."""
        return str(self.facts.get("unit", "image"))

    @property
    def id_split(self) -> str | None:
        """The ID split; there may be none beside a mixed one."""
        ids = self.facts.get("id")
        return None if ids is None else str(ids["split"])

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """Split that was scored → its role, ID first."""
        roles = {name: one["role"] for name, one in self.provenance["splits"].items()}
        order = ("id", "val", *OOD_ROLES)
        scored = [name for name in self.scores.rows if roles.get(name) in order]
        return {name: roles[name] for name in sorted(scored, key=lambda n: order.index(roles[n]))}

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """Every detector × layer: first those that cannot be told from the best, then by AUROC."""
        return sorted(_entries(self.facts), key=lambda one: (-one.leads, -_low(one.mean_auroc)))

    @cached_property
    def metrics(self) -> Sequence[str]:
        """The metrics that the results have, in the order of the table."""
        return [one for one in METRICS if any(one in row for row in self.facts["rows"])]


def read_document(folder: Path | str) -> Document:
    """Read a results folder.

    Raises:
        ConfigError: There are no results, they are of a newer format or cannot be read, or the
            scores are not there or of another comparison.
    """
    folder = Path(folder)
    facts = _read_json(folder / "results.json")
    document = Document(folder, facts, Scores(folder / "scores.parquet"))
    wanted = {entry.name for entry in document.entries}
    if document.scores.detectors != wanted:
        other = sorted(document.scores.detectors ^ wanted)[0]
        raise mixed_up(document, f"{other[0]} on {other[1]} is in one of them only")
    return document


def mixed_up(document: Document, why: str) -> ConfigError:
    """Build the error for scores that do not belong to their results."""
    return ConfigError(
        f"report: scores.parquet must be of the comparison in results.json, but is not in "
        f"{document.folder} ({printable(why)}); run latentood score again"
    )


def number(value: Any) -> float:
    """Read a number: JSON has NaN and infinity as texts, and null for what is not known."""
    return math.nan if value is None else float(value)


def _low(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(facts["format"], int) and {"provenance", "rows", "fitted"} <= set(facts)
    except FileNotFoundError:
        raise ConfigError(
            f"report: needs the results of a comparison, but there is no {path}; run latentood "
            "score first, or name the folder that it wrote"
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"report: results must be those that latentood score wrote, but {path} cannot be read "
            f"({one_line(error)}); run latentood score again"
        ) from error
    if not known or not 1 <= facts["format"] <= NEWEST:
        raise ConfigError(
            f"report: results must be of format 1 to {NEWEST}, got {facts['format']!r} in {path}; "
            "install the version of latentood that wrote them"
        )
    values: Mapping[str, Any] = facts
    return values


def _entries(facts: Mapping[str, Any]) -> Iterable[Entry]:
    lists = {kind: facts.get(kind) or [] for kind in ("fitted", "failed")}
    asked = {kind: [_request(one) for one in lines] for kind, lines in lists.items()}
    every = [*asked["fitted"], *asked["failed"]]
    rows, averages, intervals = (_by_name(facts.get(k)) for k in ("rows", "averages", "intervals"))
    wrong, selective, cost, standings = (
        _by_name(facts.get(k)) for k in ("wrong_predictions", "selective", "cost", "standings")
    )
    for request, fitted in zip(asked["fitted"], lists["fitted"], strict=True):
        name = _name(fitted)
        own = {row["split"]: dict(row) for row in rows.get(name, ())}
        for one in intervals.get(name, ()):
            own[one["split"]][f"{one['metric']}_low"] = one["low"]
            own[one["split"]][f"{one['metric']}_high"] = one["high"]
        yield Entry(
            name,
            printable(title_of(request, every)),
            printable(request.layer),
            own,
            {one["role"]: one for one in averages.get(name, ())},
            {
                f"auroc.{one['role']}": one
                for one in averages.get(name, ())
                if one.get("best") is not None
            }
            | {one["of"]: one for one in standings.get(name, ())},
            next(iter(wrong.get(name, ())), None),
            next(iter(selective.get(name, ())), {}),
            next(iter(cost.get(name, ())), _cost(own.values())),
            fitted.get("provenance", {}),
        )


def _cost(rows: Iterable[Line]) -> dict[str, float]:
    """Give the cost from the seconds of the rows, where it is not there by itself."""
    lines = list(rows)
    scored = sum(row["n_ood"] for row in lines)
    if not scored or any(row.get("role") == "mixed" for row in lines):
        return {}  # rows of a mixed split may be pixels, which are not what is scored
    spent = sum(number(row["score_seconds"]) for row in lines)
    return {"fit_seconds": lines[0]["fit_seconds"], "us_per_row": 1e6 * spent / scored}


def _by_name(lines: Iterable[Line] | None) -> dict[Name, list[Line]]:
    named: dict[Name, list[Line]] = {}
    for line in lines or ():
        named.setdefault(_name(line), []).append(line)
    return named


def _name(line: Line) -> Name:
    return str(line["detector"]), str(line["layer"]), to_text(line["hyperparameters"])


def _request(line: Line) -> Request:
    return Request(line["detector"], line["layer"], line["hyperparameters"])
