"""The file of a choice, and its run in MLflow."""

import json

import pytest
from mlflow import MlflowClient

from latentood.errors import ConfigError, StoreError
from latentood.evaluation.choice.choosing import choose
from latentood.evaluation.choice.confirming import confirm, differences
from latentood.evaluation.choice.wish import Wish
from latentood.report.choices import read_choice, write_choice
from latentood.report.tracking_store import sqlite_uri
from latentood.report.tracking_tuning import TABLE, table, track_tuning
from tests.evaluation.choice.examples import tunable


@pytest.fixture(scope="module")
def choice():
    settings = ("knn.k=1,5,400",)
    return choose(tunable(), Wish(detectors=("knn", "gen"), settings=settings, nested=True))


@pytest.fixture
def file(choice, tmp_path):
    path = tmp_path / "new" / "choice.json"
    write_choice(choice, path)
    return path


def test_a_choice_is_read_as_it_was_written(choice, file):
    assert read_choice(file) == choice
    first = file.read_bytes()
    write_choice(choice, file)
    assert file.read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new"),
    [('"k": 5', '"k": 6'), ('"seed": 0', '"seed": 1'), ('"criterion": "auroc"', '"criterion": ""')],
)
def test_an_edit_is_noticed(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match=r"got other contents than were written; add --overwrite"):
        read_choice(file)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "a file that cannot be read"),
        ("[]", "something else"),
        ('{"digest": "", "format": 99}', "format 99, where this version reads 1"),
    ],
)
def test_what_is_no_choice_is_refused(tmp_path, text, what):
    path = tmp_path / "choice.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=f"as latentood tune wrote it, got {what}"):
        read_choice(path)
    with pytest.raises(StoreError, match="a file that cannot be read"):
        read_choice(tmp_path / "none.json")


def test_a_folder_that_cannot_be_made_is_named(choice, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="choose another --out"):
        write_choice(choice, tmp_path / "taken" / "choice.json")


def test_a_search_is_one_run_with_all_its_trials(choice, file, tmp_path):
    comparison = confirm(tunable(), choice, unit="image")
    lines = differences(choice, comparison)
    uri = sqlite_uri(tmp_path)
    run = track_tuning(choice, lines, file, uri=uri, experiment="blobs")
    client = MlflowClient(tracking_uri=uri)
    about = client.get_run(run)
    assert about.info.status == "FINISHED"
    assert client.get_experiment(about.info.experiment_id).name == "blobs"
    assert {one.path for one in client.list_artifacts(run)} == {"choice.json", TABLE}
    curve = client.get_metric_history(run, "trials.knn")
    tried = [one["value"] for one in choice["trials"] if one["detector"] == "knn"]
    assert [point.value for point in curve] == [value for value in tried if value is not None]
    assert tried[-1] is None, "400 neighbours are more than there are rows"
    metrics = about.data.metrics
    assert metrics["chosen.knn"] == choice["detectors"]["knn"]["chosen"]["value"]
    assert metrics["nested.optimism"] == pytest.approx(choice["nested"]["optimism"])
    assert metrics["test.gain.knn.close"] == lines[0]["gain"]["value"]
    assert about.data.params["best"] == choice["best"]
    written = json.loads(table(choice))
    assert written["columns"] == [
        "detector",
        "layer",
        "settings",
        "value",
        "odd",
        "other",
        "reason",
    ]
    assert len(written["data"]) == len(choice["trials"])
