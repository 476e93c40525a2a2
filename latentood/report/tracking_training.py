"""A training run as MLflow shows it: curves over the epochs, histograms, and its files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentood import __version__
from latentood.report import plots, runs
from latentood.report.tracking_store import artifacts, experiment_named, opened

_TOGETHER = 1000  # metrics in one request, MLflow's limit


def track_training(
    name: str,
    history: Sequence[Mapping[str, float]],
    *,
    params: Mapping[str, Any],
    files: Sequence[Path],
    uri: str,
    statistics: Path | None = None,
) -> str:
    """Record a training run in the experiment of its pipeline; give the id of the run.

    Args:
        name: The pipeline.
        history: One mapping per epoch, each with ``epoch``.
        params: What decides the weights.
        files: What goes with the run.
        uri: The store.
        statistics: The file of the histograms of the best epoch, which are also drawn.

    Raises:
        TrackingError: The store cannot be reached or refuses the run.
    """
    from mlflow.entities import Metric, Param

    kept = ", ".join(map(str, files))
    with opened(uri, "take the run", f"the weights are safe beside {kept}: ") as client:
        home = experiment_named(client, runs.text(name), uri)
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        tags = {"latentood.version": __version__, "mlflow.source.name": "latentood train"}
        run: str = client.create_run(
            home, run_name=runs.text(f"train {name} · {created}"), tags=tags
        ).info.run_id
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"training.{metric}", value, now, int(line["epoch"]))
            for line in history
            for metric, value in line.items()
            if metric != "epoch"
        ]
        texts = [Param(param, runs.text(value)) for param, value in params.items()]
        client.log_batch(run, params=texts)
        for first in range(0, len(metrics), _TOGETHER):
            client.log_batch(run, metrics[first : first + _TOGETHER])
        for path in [*files, *([] if statistics is None else [statistics])]:
            client.log_artifact(run, str(path))
        if statistics is not None:
            content = json.loads(statistics.read_text(encoding="utf-8"))
            figure = plots.certainty(content, f"{name}: val split, epoch {content['epoch']}")
            with artifacts(client, run) as folder:
                plots.save(figure, folder / "statistics.png")
        client.set_terminated(run)
    return run
