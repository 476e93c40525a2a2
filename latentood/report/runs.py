"""Metrics, params, tags and tables of a comparison's MLflow runs, as plain values."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentood.errors import masked, printable
from latentood.evaluation.comparison import ROW_COLUMNS, Comparison, Request, Result
from latentood.report.results import to_text
from latentood.report.table import mean_over_splits

_TEXT_LENGTH = 5000  # below MLflow's limits for params (6000) and tags (8000)
_DIGEST_LENGTH = 36  # MLflow's limit; the whole fingerprint is in the profile
_METRICS = ROW_COLUMNS[ROW_COLUMNS.index("auroc") : ROW_COLUMNS.index("fit_seconds")]
_TABLE = ("split", "role", "n_id", "n_ood", *_METRICS)
_SHORT_DIGEST = 8

TABLE_FILE = "ood_splits.json"
VIEW = "latentood"
"""The name of the UI's view of an experiment."""


@dataclass(frozen=True)
class DataFacts:
    """A split as MLflow lists data sets."""

    name: str
    digest: str
    source: str  # JSON
    profile: str  # JSON
    context: str


def parent_metrics(comparison: Comparison) -> dict[str, float]:
    """Give the numbers of a comparison as a whole."""
    values = {f"{name}_seconds": spent for name, spent in comparison.shared_seconds.items()}
    for name in ("results", "failed", "skipped"):
        values[name] = float(len(getattr(comparison, name)))
    if comparison.results:
        values["best.mean.auroc"] = comparison.ranked[0].mean_auroc
    return values | _id_accuracy(comparison)


def child_metrics(result: Result) -> dict[str, float]:
    """Give the few numbers of one detector that lists are sorted by; the table has the others.

    Their names sort in this order: ``mean.auroc``, what detectors are ranked by, and the mean
    FPR95 first.
    """
    values = {"mean.auroc": result.mean_auroc}
    for name in ("fpr95_id", "fpr95_ood"):
        values[f"mean.{name}"] = mean_over_splits(result, name)
    for role, average in result.averages.items():
        values[f"mean_{role}.auroc"] = average.auroc
    if result.wrong is not None:
        for name in ("auroc", "fpr95_id", "fpr95_ood"):
            values[f"wrong.{name}"] = getattr(result.wrong, name)
    seconds = {"fit": result.fit_seconds, "score": result.total_score_seconds}
    return values | {f"seconds.{part}": spent for part, spent in seconds.items()}


def parent_params(comparison: Comparison) -> dict[str, str]:
    """Give what all runs of a comparison have in common."""
    pipeline = comparison.provenance["pipeline"]
    values = {
        "pipeline": pipeline.get("name"),
        "model.weights": weights(comparison),
        "pipeline.seed": comparison.provenance["seed"],
        "T": (pipeline.get("monte_carlo") or {}).get("passes"),
    }
    return {name: text(value) for name, value in values.items() if value is not None}


def child_params(request: Request, comparison: Comparison) -> dict[str, str]:
    """Give the request for one detector: its name, layer and all hyperparameters."""
    own = {name: text(value) for name, value in request.hyperparameters.items()}
    names = {"detector": request.detector, "layer": request.layer}
    return own | parent_params(comparison) | names


def name(comparison: Comparison) -> str:
    """Name a comparison by pipeline, weights and time (UTC)."""
    provenance = comparison.provenance
    created = provenance["created"][:19].replace("T", " ")
    parts = (provenance["pipeline"].get("name"), weights(comparison), created)
    return text(" · ".join(part for part in parts if part))


def weights(comparison: Comparison) -> str | None:
    """Name the weights by the beginning of their digest and by their file or number of files."""
    model = comparison.provenance["pipeline"].get("model") or {}
    files = model.get("weights") or ""
    file = f"{len(files)} members" if isinstance(files, list) else Path(str(files)).name
    digest = (comparison.provenance["weights"] or "")[:_SHORT_DIGEST]
    return " ".join(part for part in (digest, file) if part) or None


def shared_tags(comparison: Comparison) -> dict[str, str]:
    """Give the tags that lead from any run back to model, data and code."""
    provenance = comparison.provenance
    values = {
        "latentood.pipeline": provenance["pipeline"].get("name"),
        "latentood.fingerprint": provenance["digest"],
        "latentood.weights": provenance["weights"],
        "latentood.version": provenance["versions"]["score"]["latentood"],
        "latentood.git_revision": _git_revision(),
        "mlflow.source.name": "latentood score",
    }
    return {name: text(value) for name, value in values.items() if value}


def child_tags(request: Request, parent: str) -> dict[str, str]:
    """Give the tags that identify one run of a comparison."""
    return {
        "mlflow.parentRunId": parent,
        "latentood.detector": text(request.detector),
        "latentood.layer": text(request.layer),
    }


def table_tags() -> dict[str, str]:
    """Give the tag by which MLflow finds the table of a run."""
    return {"mlflow.loggedArtifacts": to_text([{"path": TABLE_FILE, "type": "table"}])}


def note(count: int) -> dict[str, str]:
    """Give the tag that says, above a run, where the figures are."""
    where = f"Figures are drawn for the {count} best detectors; scores.parquet of the comparison "
    return {"mlflow.note.content": where + "holds the scores of all."}


def data_facts(comparison: Comparison) -> list[DataFacts]:
    """Describe the splits, each with our fingerprint of its data as digest."""
    values = []
    for name, facts in comparison.provenance["splits"].items():
        data: Mapping[str, Any] = facts["data"]
        whole = str(data.get("fingerprint") or comparison.provenance["digest"] or "unknown")
        source = to_text({"tags": {"target": data.get("target")}})
        profile = to_text({"rows": facts["rows"], "role": facts["role"], "fingerprint": whole})
        values.append(DataFacts(text(name), whole[:_DIGEST_LENGTH], source, profile, facts["role"]))
    return values


def table(result: Result) -> str:
    """Give one line per OOD split, one per role, their mean, and one of the wrong predictions.

    MLflow stores a table so. The last line is there where the ID split has wrong predictions.
    """
    lines = [[getattr(row, name) for name in _TABLE] for row in result.rows]
    for role, average in result.averages.items():
        values = vars(average) | {"split": f"mean of {role}"}
        lines.append([values.get(name) for name in _TABLE])
    if result.wrong is not None:
        lines.append([getattr(result.wrong, name) for name in _TABLE])
    return to_text({"columns": _TABLE, "data": lines})


def view_tags() -> dict[str, str]:
    """Give the tag of the view: every detector by itself, best first, its metrics beside it.

    MLflow has no other place for the columns of a list of runs than the browser's memory.
    """
    metrics = ("mean.auroc", "mean.fpr95_id", "mean.fpr95_ood", "mean_far.auroc", "mean_near.auroc")
    view = {
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "selectedColumns": [*(f"metrics.`{name}`" for name in metrics), "params.`model.weights`"],
    }
    return {f"mlflow.sharedViewState.{VIEW}": to_text(view)}


def text(value: Any) -> str:
    """Write a value as MLflow can hold it; the results files hold all of it."""
    return printable(masked(value if isinstance(value, str) else to_text(value)))[:_TEXT_LENGTH]


def _id_accuracy(comparison: Comparison) -> dict[str, float]:
    accuracy = None if comparison.id_split is None else comparison.id_split.accuracy
    return {} if accuracy is None else {"id_accuracy": accuracy}


def _git_revision() -> str | None:
    """Name the commit of the current folder, if it is in a git repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        values = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return values.stdout.strip()
