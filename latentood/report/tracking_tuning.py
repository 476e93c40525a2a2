"""A search of settings as MLflow shows it: one run, a table of all trials, curves by detector."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentood import __version__
from latentood.report import runs
from latentood.report.results import to_text
from latentood.report.tracking_store import artifacts, experiment_named, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient

TABLE = "trials.json"

_TOGETHER = 1000  # metrics in one request, MLflow's limit


def track_tuning(
    choice: Mapping[str, Any],
    differences: Sequence[Mapping[str, Any]],
    file: Path,
    *,
    uri: str,
    comparison: str | None = None,
    experiment: str | None = None,
) -> str:
    """Record a search in one MLflow run; give its id.

    Args:
        choice: What was chosen, as its file has it.
        differences: Default and chosen settings on the splits that are reported.
        file: The file of the choice, which goes with the run.
        uri: The store.
        comparison: The run of the comparison on the splits that are reported.
        experiment: Its experiment; default: that of the comparison, else ``latentood``.

    Raises:
        TrackingError: The store cannot be reached or refuses the run.
    """
    with opened(uri, "take the run", f"the choice is safe in {file}: ") as client:
        home = _home(client, uri, comparison, experiment)
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        tags = {
            "latentood.version": __version__,
            "latentood.fingerprint": choice["cache"]["digest"],
            "mlflow.source.name": "latentood tune",
            "mlflow.loggedArtifacts": to_text([{"path": TABLE, "type": "table"}]),
        } | ({} if comparison is None else {"latentood.comparison": comparison})
        run: str = client.create_run(
            home, run_name=runs.text(f"tune {choice['best']} · {created}"), tags=tags
        ).info.run_id
        _log(client, run, choice, differences)
        client.log_artifact(run, str(file))
        with artifacts(client, run) as folder:
            (folder / TABLE).write_text(table(choice), encoding="utf-8")
        client.set_terminated(run)
    return run


def table(choice: Mapping[str, Any]) -> str:
    """Give one line per trial, as MLflow stores a table."""
    sets = [one["name"] for one in choice["sets"]]
    columns = ["detector", "layer", "settings", "value", *sets, "reason"]
    lines = [
        [
            trial["detector"],
            trial["layer"],
            to_text(trial["settings"]),
            trial["value"],
            *(trial["values"].get(name) for name in sets),
            trial["reason"],
        ]
        for trial in choice["trials"]
    ]
    return to_text({"columns": columns, "data": lines})


def _home(client: MlflowClient, uri: str, comparison: str | None, name: str | None) -> str:
    if name is None and comparison is not None:
        return str(client.get_run(comparison).info.experiment_id)
    return experiment_named(client, runs.text(name or "latentood"), uri)


def _log(
    client: MlflowClient,
    run: str,
    choice: Mapping[str, Any],
    differences: Sequence[Mapping[str, Any]],
) -> None:
    from mlflow.entities import Metric, Param

    params = {f"request.{name}": value for name, value in choice["request"].items()}
    params |= {
        f"chosen.{name}": one["chosen"]["arguments"] for name, one in choice["detectors"].items()
    }
    params |= {"best": choice["best"], "sets": [one["name"] for one in choice["sets"]]}
    texts = [Param(name, runs.text(value)) for name, value in params.items()]
    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, step) for name, value, step in _metrics(choice, differences)
    ]
    for first in range(0, len(texts), 100):  # MLflow's limit
        client.log_batch(run, params=texts[first : first + 100])
    for first in range(0, len(metrics), _TOGETHER):
        client.log_batch(run, metrics[first : first + _TOGETHER])


def _metrics(
    choice: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, float, int]]:
    """Give name, value and step of what has a value: trials are the steps of a detector."""
    steps: Counter[str] = Counter()
    for trial in choice["trials"]:
        name = trial["detector"]
        if trial["value"] is not None:
            yield f"trials.{name}", trial["value"], steps[name]
        steps[name] += 1
    for name, value in _results(choice, differences):
        if value is not None:
            yield name, value, 0


def _results(
    choice: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, float | None]]:
    for name, one in choice["detectors"].items():
        for which in ("default", "chosen"):
            yield f"{which}.{name}", one[which]["value"]
        yield f"gain.{name}", (one["gain"] or {}).get("value")
    for part in ("apparent", "cross_fitted", "optimism"):
        yield f"nested.{part}", (choice["nested"] or {}).get(part)
    for line in differences:
        which = line["split"] or f"mean {line['role']}"
        where = "".join(c if c.isalnum() or c in "_-." else "_" for c in which)
        yield f"test.gain.{line['detector']}.{where}", line["gain"]["value"]
