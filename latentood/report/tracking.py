"""Comparisons as MLflow runs: one parent per call, one child per detector × layer.

Nothing here is needed to keep results; they are on disk before tracking starts.
"""

from __future__ import annotations

import logging
import os
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latentood.errors import TrackingError
from latentood.evaluation.comparison import Comparison, Request, Result, Unscored
from latentood.report import plots, runs
from latentood.report.mlflow_ui import NO_TELEMETRY, artifact_location, sqlite_file
from latentood.report.table import as_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

Progress = Callable[[str, int, int], None]

# A server that does not answer must cost seconds: results are safe, and can be tracked later.
_ONE_RETRY: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_FIRST_ANSWER: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
_UPLOAD: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
_NOISY = ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool")
_BATCH = 500  # metrics of one request; MLflow takes 1000 entries


def track(
    comparison: Comparison,
    *,
    uri: str,
    results: Mapping[str, Path],
    experiment: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Record a comparison in MLflow, its files with the parent run, and give the id of that run.

    Artifacts of a SQLite store go beside its file. The experiment has the name of the pipeline
    unless another is given.

    Raises:
        TrackingError: The store cannot be reached or refuses the runs.
    """
    name = experiment or comparison.provenance["pipeline"].get("name") or "latentood"
    for variable, value in NO_TELEMETRY.items():
        os.environ.setdefault(variable, value)
    with _quiet(), _defaults(_ONE_RETRY), _named_errors(uri, results):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        with _defaults(_FIRST_ANSWER):
            home = _experiment(client, name, uri)
        with _defaults(_UPLOAD):
            return _Recorder(client, home, comparison).record(
                results, progress or (lambda *_: None)
            )


class _Recorder:
    """The runs of one comparison, as they are written."""

    def __init__(self, client: MlflowClient, experiment: str, comparison: Comparison) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client = client
        self.experiment = experiment
        self.comparison = comparison
        self.shared_tags = runs.shared_tags(comparison)
        self.datasets = [
            DatasetInput(
                Dataset(facts.name, facts.digest, "code", facts.source, profile=facts.profile),
                [InputTag("mlflow.data.context", facts.context)],
            )
            for facts in runs.data_facts(comparison)
        ]

    def record(self, results: Mapping[str, Path], progress: Progress) -> str:
        """Write the parent and all children; give the parent's id."""
        comparison = self.comparison
        total = len(comparison.results) + len(comparison.failed)
        with (
            self._run(f"{total} detectors", {}) as parent,
            _artifacts(self.client, parent) as folder,
        ):
            self._log(parent, runs.parent_metrics(comparison), runs.parent_params(comparison))
            for path in results.values():
                self.client.log_artifact(parent, str(path))
            (folder / "table.txt").write_text(as_text(comparison) + "\n", encoding="utf-8")
            if comparison.results:
                plots.ranking(comparison).savefig(folder / "ranking.png")
            for done, result in enumerate(comparison.results, start=1):
                self._record_result(result, parent)
                progress("track", done, total)
            for done, failure in enumerate(comparison.failed, start=1 + len(comparison.results)):
                self._record_failure(failure, parent)
                progress("track", done, total)
        return parent

    def _record_result(self, result: Result, parent: str) -> None:
        request, id_split = result.request, self.comparison.id_split.name
        title = self._title(request)
        with (
            self._run(title, runs.child_tags(request, parent)) as run,
            _artifacts(self.client, run) as folder,
        ):
            metrics = runs.child_metrics(result, self.comparison)
            self._log(run, metrics, runs.child_params(request, self.comparison))
            self.client.log_table(run, runs.table(result), "ood_splits.json")
            plots.roc(result, id_split, title).savefig(folder / "roc.png")
            plots.histogram(result, id_split, title).savefig(folder / "histogram.png")

    def _record_failure(self, failure: Unscored, parent: str) -> None:
        tags = {"latentood.error": runs.text(failure.reason)}
        tags |= runs.child_tags(failure.request, parent)
        with self._run(self._title(failure.request), tags, ends="FAILED") as run:
            self._log(run, {}, runs.child_params(failure.request, self.comparison))

    def _title(self, request: Request) -> str:
        return f"{self.comparison.title(request)} · {request.layer}"

    @contextmanager
    def _run(self, name: str, tags: Mapping[str, str], ends: str = "FINISHED") -> Iterator[str]:
        """Open a run; it ends with status ``ends``, or as failed if writing it fails."""
        created = self.client.create_run(
            self.experiment, run_name=name, tags={**self.shared_tags, **tags}
        )
        run: str = created.info.run_id
        try:
            self.client.log_inputs(run, self.datasets)
            yield run
        except BaseException:
            with suppress(Exception):  # what went wrong first is what matters
                self.client.set_terminated(run, "FAILED")
            raise
        self.client.set_terminated(run, ends)

    def _log(self, run: str, metrics: Mapping[str, float], params: Mapping[str, str]) -> None:
        """Write the metrics and params of a run, many to a request."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        entries = [Metric(name, value, now, 0) for name, value in metrics.items()]
        self.client.log_batch(run, params=[Param(name, value) for name, value in params.items()])
        for start in range(0, len(entries), _BATCH):
            self.client.log_batch(run, entries[start : start + _BATCH])


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Find an experiment, or make it with its artifacts beside a SQLite store."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifact_location(uri)))


@contextmanager
def _artifacts(client: MlflowClient, run: str) -> Iterator[Path]:
    """Give a folder whose files become artifacts of a run, in one call."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        client.log_artifacts(run, folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence deprecation warnings and log lines of MLflow and the libraries below it."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _NOISY)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


@contextmanager
def _defaults(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that the user did not set, for a while."""
    mine = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextmanager
def _named_errors(uri: str, results: Mapping[str, Path]) -> Iterator[None]:
    """Turn whatever MLflow and its store raise into one error that names the files kept."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if (database := sqlite_file(uri)) is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        kept = ", ".join(str(path) for path in results.values())
        raise TrackingError(
            f"tracking: {uri} must take the runs, but does not ({reason}); the results are safe "
            f"in {kept}: start the server or name another store with --tracking"
        ) from error
