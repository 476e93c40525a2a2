"""Metrics, params, tags and tables of a comparison's MLflow runs, as plain values."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentood.evaluation.comparison import ROW_COLUMNS, Comparison, Request, Result
from latentood.report.results import to_text

_NOT_IN_NAMES = re.compile(r"[^\w\-. /:]")
_TEXT_LENGTH = 5000  # below MLflow's limits for params (6000) and tags (8000)
_DIGEST_LENGTH = 36  # MLflow's limit; the whole fingerprint is in the profile
_METRICS = ROW_COLUMNS[ROW_COLUMNS.index("auroc") : ROW_COLUMNS.index("fit_seconds")]
_TABLE = ("split", "role", "n_id", "n_ood", *_METRICS)


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


def child_metrics(result: Result, comparison: Comparison) -> dict[str, float]:
    """Give the numbers of one detector.

    ``auroc.<split>`` and its like for every OOD split; ``near.auroc`` and ``far.auroc`` with
    their intervals; ``mean.auroc``, what detectors are ranked by; seconds; ID accuracy.
    """
    values = {
        _NOT_IN_NAMES.sub("_", f"{name}.{row.split}"): getattr(row, name)
        for row in result.rows
        for name in _METRICS
    }
    for role, average in result.averages.items():
        for name in ("auroc", "auroc_low", "auroc_high"):
            values[f"{role}.{name}"] = getattr(average, name)
    values["mean.auroc"] = result.mean_auroc
    values["fit_seconds"] = result.fit_seconds
    values["score_seconds"] = result.total_score_seconds
    return values | _id_accuracy(comparison)


def parent_params(comparison: Comparison) -> dict[str, str]:
    """Give what all runs of a comparison have in common."""
    pipeline = comparison.provenance["pipeline"]
    values = {
        "pipeline": pipeline.get("name"),
        "pipeline.seed": comparison.provenance["seed"],
        "T": (pipeline.get("monte_carlo") or {}).get("passes"),
    }
    return {name: text(value) for name, value in values.items() if value is not None}


def child_params(request: Request, comparison: Comparison) -> dict[str, str]:
    """Give the request for one detector: its name, layer and all hyperparameters."""
    own = {name: text(value) for name, value in request.hyperparameters.items()}
    names = {"detector": request.detector, "layer": request.layer}
    return own | parent_params(comparison) | names


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
        "latentood.detector": request.detector,
        "latentood.layer": request.layer,
    }


def data_facts(comparison: Comparison) -> list[DataFacts]:
    """Describe the splits, each with our fingerprint of its data as digest."""
    values = []
    for name, facts in comparison.provenance["splits"].items():
        data: Mapping[str, Any] = facts["data"]
        whole = str(data.get("fingerprint") or comparison.provenance["digest"] or "unknown")
        source = to_text({"tags": {"target": data.get("target")}})
        profile = to_text({"rows": facts["rows"], "role": facts["role"], "fingerprint": whole})
        values.append(DataFacts(name, whole[:_DIGEST_LENGTH], source, profile, facts["role"]))
    return values


def table(result: Result) -> dict[str, list[Any]]:
    """Give one line per OOD split, column by column."""
    return {name: [getattr(row, name) for row in result.rows] for name in _TABLE}


def text(value: Any) -> str:
    """Write a value as MLflow can hold it; the results files hold all of it."""
    return (value if isinstance(value, str) else to_text(value))[:_TEXT_LENGTH]


def _id_accuracy(comparison: Comparison) -> dict[str, float]:
    accuracy = comparison.id_split.accuracy
    return {} if accuracy is None else {"id_accuracy": accuracy}


def _git_revision() -> str | None:
    """Name the commit of the current folder, if it is in a git repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        values = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return values.stdout.strip()
