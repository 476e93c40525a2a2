"""What is in the MLflow store, read back by its own client."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow import MlflowClient

from latentood.errors import TrackingError
from latentood.report import runs, tracking
from latentood.report.results import write_results
from latentood.report.tracking import newest_experiment, track
from latentood.report.tracking_store import sqlite_uri
from tests.evaluation.examples import HEADER


@pytest.fixture(scope="module")
def client(tracked):
    return MlflowClient(tracking_uri=tracked[0])


@pytest.fixture(scope="module")
def parent(client, tracked):
    return client.get_run(tracked[1])


@pytest.fixture(scope="module")
def children(client, parent):
    runs = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return {run.info.run_name: run for run in runs}


@pytest.fixture(scope="module")
def child(children):
    return children["distance power=2.0 weights=(0.5, 1.5) · penultimate"]


def artifacts(client, run):
    return {entry.path for entry in client.list_artifacts(run.info.run_id)}


def test_there_is_one_child_per_detector_and_layer(children, parent, comparison):
    assert set(children) == {
        "peak · logits",
        "distance power=1.0 weights=() · penultimate",
        "distance power=2.0 weights=(0.5, 1.5) · penultimate",
        "broken · logits",
    }
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == runs.name(comparison)


def test_a_failed_detector_is_a_failed_run_that_says_why(children):
    assert children["broken · logits"].info.status == "FAILED"
    reason = children["broken · logits"].data.tags["latentood.error"]
    assert reason == "broken: must not be used, got used; leave it out"
    assert children["peak · logits"].info.status == "FINISHED"


def test_metrics_are_those_of_the_comparison(child, comparison):
    result = comparison.results[2]
    means = {name: [getattr(r, name) for r in result.rows] for name in ("fpr95_id", "fpr95_ood")}
    assert child.data.metrics == {
        "mean.auroc": result.mean_auroc,
        "mean.fpr95_id": pytest.approx(np.mean(means["fpr95_id"])),
        "mean.fpr95_ood": pytest.approx(np.mean(means["fpr95_ood"])),
        "mean_near.auroc": result.averages["near"].auroc,
        "mean_far.auroc": result.averages["far"].auroc,
        "wrong.auroc": result.wrong.auroc,
        "wrong.fpr95_id": result.wrong.fpr95_id,
        "wrong.fpr95_ood": result.wrong.fpr95_ood,
        "seconds.fit": result.fit_seconds,
        "seconds.score": result.total_score_seconds,
    }


def test_the_parent_says_which_score_is_best(parent, comparison):
    assert parent.data.metrics["best.mean.auroc"] == comparison.ranked[0].mean_auroc
    assert parent.data.metrics["failed"] == 1
    assert parent.data.metrics["id_accuracy"] == comparison.id_split.accuracy


def test_params_are_hyperparameters_layer_detector_passes_and_pipeline(child):
    assert child.data.params == {
        "power": "2.0",
        "weights": "[0.5, 1.5]",
        "layer": "penultimate",
        "detector": "distance",
        "T": "16",
        "pipeline": "blobs",
        "pipeline.seed": "7",
        "model.weights": "a1a1a1a1",
    }


def test_tags_lead_back_to_model_and_cache(child, parent):
    for run in (child, parent):
        assert run.data.tags["latentood.fingerprint"] == HEADER.digest
        assert run.data.tags["latentood.weights"] == "a1" * 32
        assert run.data.tags["latentood.pipeline"] == "blobs"
    assert child.data.tags["latentood.layer"] == "penultimate"


def test_figures_and_the_table_of_ood_splits_are_artifacts(client, child, comparison, tmp_path):
    assert artifacts(client, child) == {"roc.png", "histogram.png", "ood_splits.json"}
    local = client.download_artifacts(child.info.run_id, "ood_splits.json", str(tmp_path))
    table = json.loads(Path(local).read_text())
    result = comparison.results[2]
    for name in ("auroc", "auroc_low", "auroc_high", "aupr_out", "aupr_in"):
        column = table["columns"].index(name)
        lines = [line[column] for line in table["data"][:3]]
        assert lines == [getattr(row, name) for row in result.rows]
    logged = json.loads(child.data.tags["mlflow.loggedArtifacts"])
    assert logged == [{"path": "ood_splits.json", "type": "table"}]
    png = client.download_artifacts(child.info.run_id, "roc.png", str(tmp_path))
    assert Path(png).read_bytes().startswith(b"\x89PNG")


def test_figures_are_drawn_for_the_best_only_and_each_run_says_so(
    comparison, files, tracked, client, monkeypatch
):
    monkeypatch.setattr(tracking, "BEST", 1)
    parent = track(comparison, uri=tracked[0], results=files, experiment="few")
    home = client.get_run(parent).info.experiment_id
    every = {run.info.run_name: run for run in client.search_runs([home])}
    best = comparison.ranked[0]
    for result in comparison.results:
        run = every[f"{comparison.title(result.request)} · {result.request.layer}"]
        names = {"ood_splits.json"} | ({"roc.png", "histogram.png"} if result is best else set())
        assert artifacts(client, run) == names
        assert ("best" in run.data.tags.get("mlflow.note.content", "")) == (result is not best)
    assert "scores.parquet" in every[runs.name(comparison)].data.tags["mlflow.note.content"]


def test_the_newest_experiment_of_ours_is_the_one_to_show(comparison, client, tracked):
    run = track(comparison, uri=tracked[0], results={}, experiment="newest")
    client.create_run(client.create_experiment("not-ours"))
    home = client.get_run(run).info.experiment_id
    assert newest_experiment(tracked[0]) == home
    assert f"mlflow.sharedViewState.{runs.VIEW}" in client.get_experiment(home).tags


def test_a_store_without_runs_of_ours_has_no_experiment_to_show(monkeypatch):
    nothing = SimpleNamespace(search_experiments=list, search_runs=lambda *_, **__: [])
    monkeypatch.setattr(tracking, "opened", lambda *_: nullcontext(nothing))
    assert newest_experiment("sqlite:///mlflow.db") is None


def test_the_parent_keeps_the_results_files(client, parent, files, tmp_path):
    assert artifacts(client, parent) == {
        "results.csv", "results.json", "scores.parquet", "classes.csv", "table.txt", "ranking.png",
    }  # fmt: skip
    local = client.download_artifacts(parent.info.run_id, "results.json", str(tmp_path))
    assert Path(local).read_bytes() == files["json"].read_bytes()


def test_data_sets_carry_our_fingerprint_as_digest(child, parent):
    for run in (child, parent):
        data_sets = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
        assert set(data_sets) == {"train", "val", "id_test", "close", "noise", "texture"}
        noise = data_sets["noise"]
        assert noise.dataset.digest == "n" * 36
        assert json.loads(noise.dataset.profile)["rows"] == 50
        assert [(tag.key, tag.value) for tag in noise.tags] == [("mlflow.data.context", "far")]


def test_artifacts_lie_beside_the_database_by_absolute_path(client, parent, tracked):
    folder = Path(tracked[0].removeprefix("sqlite:///")).parent
    assert folder.is_absolute()
    assert parent.info.artifact_uri.startswith((folder / "mlartifacts").as_uri())


def test_a_second_comparison_joins_the_experiment(comparison, files, client, parent, tracked):
    calls = []
    run = track(
        comparison, uri=tracked[0], results=files, progress=lambda *news: calls.append(news)
    )
    assert client.get_run(run).info.experiment_id == parent.info.experiment_id
    assert calls[-1] == ("track", 4, 4)


def test_results_outlive_a_tracking_server_that_is_not_there(comparison, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    written = write_results(comparison, tmp_path)
    contents = {path: path.read_bytes() for path in written.values()}
    start = time.monotonic()
    message = (
        rf"^tracking: http://127\.0\.0\.1:{port} must take the runs, but does not \(.*\); "
        r"the results are safe in .*results\.csv.*: start the server or name another store"
    )
    with pytest.raises(TrackingError, match=message) as caught:
        track(comparison, uri=f"http://127.0.0.1:{port}", results=written)
    assert time.monotonic() - start < 15
    assert isinstance(caught.value, OSError)
    assert {path: path.read_bytes() for path in written.values()} == contents
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_folder_that_cannot_hold_the_store_is_a_named_error(comparison, files, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(TrackingError, match="the results are safe in"):
        track(comparison, uri=sqlite_uri(tmp_path / "taken"), results=files)


def test_a_run_that_cannot_be_finished_is_marked_failed(comparison, client, tracked, tmp_path):
    with pytest.raises(TrackingError):
        track(comparison, uri=tracked[0], results={"csv": tmp_path / "gone"}, experiment="torn")
    (experiment,) = (e for e in client.search_experiments() if e.name == "torn")
    statuses = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert statuses == {"FAILED"}


def test_importing_the_module_loads_no_mlflow_and_no_matplotlib():
    heavy = "{'mlflow', 'matplotlib', 'pyarrow', 'zarr', 'faiss'}"
    code = f"import sys, latentood.report.tracking; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_telemetry_is_off_unless_the_user_decided():
    code = (
        "import os; os.environ['DO_NOT_TRACK'] = 'false';"
        "from latentood.report import tracking as t;"
        "t._experiment = lambda *a: (_ for _ in ()).throw(OSError('stop'));\n"
        "class C: provenance = {'pipeline': {}}\n"
        "try: t.track(C(), uri='http://127.0.0.1:9', results={})\n"
        "except OSError: pass\n"
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_DISABLE_TELEMETRY",)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["true", "false"]
