"""Comparisons as MLflow runs: one parent per call, one child per detector × layer.

Nothing here is needed to keep results; they are on disk before tracking starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latentood.evaluation.comparison import Comparison, Request, Result, Unscored
from latentood.report import plots, runs
from latentood.report.table import as_text
from latentood.report.tracking_store import artifacts, experiment_named, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient

Progress = Callable[[str, int, int], None]

BEST = 5
"""How many detectors get figures, since drawing takes a tenth of a second each."""


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
    kept = ", ".join(str(path) for path in results.values())
    with opened(uri, "take the runs", f"the results are safe in {kept}: ") as client:
        home = experiment_named(client, runs.text(name), uri)
        _set_view(client, home)
        return _Recorder(client, home, comparison).record(results, progress or (lambda *_: None))


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
            self._run(runs.name(comparison), runs.note(BEST)) as parent,
            artifacts(self.client, parent) as folder,
        ):
            self._log(parent, runs.parent_metrics(comparison), runs.parent_params(comparison))
            for path in results.values():
                self.client.log_artifact(parent, str(path))
            (folder / "table.txt").write_text(as_text(comparison) + "\n", encoding="utf-8")
            if comparison.results:
                plots.save(plots.ranking(comparison), folder / "ranking.png")
            for done, result in enumerate(comparison.ranked, start=1):
                self._record_result(result, parent, drawn=done <= BEST)
                progress("track", done, total)
            for done, failure in enumerate(comparison.failed, start=1 + len(comparison.results)):
                self._record_failure(failure, parent)
                progress("track", done, total)
        return parent

    def _record_result(self, result: Result, parent: str, *, drawn: bool) -> None:
        request = result.request
        title = self._title(request)
        tags = runs.child_tags(request, parent) | runs.table_tags()
        with (
            self._run(title, tags if drawn else tags | runs.note(BEST)) as run,
            artifacts(self.client, run) as folder,
        ):
            params = runs.child_params(request, self.comparison)
            self._log(run, runs.child_metrics(result), params)
            (folder / runs.TABLE_FILE).write_text(runs.table(result), encoding="utf-8")
            if drawn:
                sides = self.comparison.sides(result)
                plots.save(plots.roc(result, sides, title), folder / "roc.png")
                plots.save(plots.histogram(result, sides, title), folder / "histogram.png")

    def _record_failure(self, failure: Unscored, parent: str) -> None:
        tags = {"latentood.error": runs.text(failure.reason)}
        tags |= runs.child_tags(failure.request, parent)
        with self._run(self._title(failure.request), tags, ends="FAILED") as run:
            self._log(run, {}, runs.child_params(failure.request, self.comparison))

    def _title(self, request: Request) -> str:
        return runs.text(f"{self.comparison.title(request)} · {request.layer}")

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
        """Write the metrics and params of a run in one request."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        self.client.log_batch(
            run,
            [Metric(name, value, now, 0) for name, value in metrics.items()],
            [Param(name, value) for name, value in params.items()],
        )


def newest_experiment(uri: str) -> str | None:
    """Give the id of the experiment that was tracked last, ready for its view in the UI.

    Raises:
        TrackingError: The store cannot be opened.
    """
    with opened(uri, "list its runs") as client:
        every = [one.experiment_id for one in client.search_experiments()]
        newest = client.search_runs(
            every, "tags.`latentood.version` LIKE '%'", order_by=["start_time DESC"], max_results=1
        )
        if not newest:
            return None
        home = str(newest[0].info.experiment_id)
        _set_view(client, home)  # a store of an earlier version lacks it
        return home


def _set_view(client: MlflowClient, experiment: str) -> None:
    for tag, value in runs.view_tags().items():
        client.set_experiment_tag(experiment, tag, value)
