"""A training run in MLflow."""

import json

from mlflow import MlflowClient

from latentood.report.tracking_store import sqlite_uri
from latentood.report.tracking_training import track_training


def test_curves_params_and_files_of_a_training_are_tracked(tmp_path):
    (tmp_path / "history.csv").write_text("epoch\n")
    history = [{"epoch": 1.0, "loss": 2.0, "kl": 0.1}, {"epoch": 2.0, "loss": 1.0, "kl": 0.2}]
    uri = sqlite_uri(tmp_path)
    run = track_training(
        "digits",
        history,
        params={"objective": {"name": "evidential"}, "where": "https://me:secret@host"},
        files=[tmp_path / "history.csv"],
        uri=uri,
    )
    client = MlflowClient(tracking_uri=uri)
    info = client.get_run(run)
    assert info.info.status == "FINISHED"
    assert client.get_experiment(info.info.experiment_id).name == "digits"
    curve = client.get_metric_history(run, "training.loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]
    assert info.data.params["objective"] == '{"name": "evidential"}'
    assert "secret" not in info.data.params["where"]
    assert [one.path for one in client.list_artifacts(run)] == ["history.csv"]


def test_histograms_are_tracked_as_a_file_and_drawn(tmp_path):
    histogram = {"edges": [0.0, 0.5, 1.0], "right": [3, 1], "wrong": [0, 0]}
    content = {"epoch": 2, "rows": {"right": 4, "wrong": 0}}
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps(content | {"uncertainty": histogram, "probability": histogram}))
    uri = sqlite_uri(tmp_path)
    run = track_training("digits", [], params={}, files=[], uri=uri, statistics=file)
    client = MlflowClient(tracking_uri=uri)
    kept = {one.path: one.file_size for one in client.list_artifacts(run)}
    assert set(kept) == {"statistics.json", "statistics.png"}
    assert kept["statistics.png"] > 5000
