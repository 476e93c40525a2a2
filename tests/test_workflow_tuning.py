"""``lo.tune``: the choice is fixed in a file, and looked at once on what is reported."""

import json

import pytest
import torch

import latentood as lo
from latentood.errors import ConfigError, StoreError
from latentood.evaluation.choice import choosing
from latentood.evaluation.scoring import score_all
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory
from latentood.workflows import tuning
from tests.evaluation.choice.examples import REPORTED, tunable

KNN = {"detectors": "knn", "settings": ["knn.k=1,5"]}


def test_a_choice_has_settings_trials_and_the_comparison():
    choice = lo.tune(tunable(), detectors=["knn", "gen"], settings=["knn.k=1,5"])
    assert set(choice.settings) == {"knn", "gen"}
    assert choice.settings["knn"]["k"] in (1, 5)
    assert choice.detectors["knn"].k == choice.settings["knn"]["k"]
    assert len([one for one in choice.trials if one["detector"] == "knn"]) == 3
    assert {split.name for split in choice.comparison.splits} == set(REPORTED)
    alone = score_all(tunable(), [choice.detectors["knn"]])
    assert alone.results[0].rows[0].auroc in [row.auroc for row in choice.comparison.rows]
    assert choice.best in choice.settings
    assert choice.command("score", "c.zarr").startswith("latentood score c.zarr --detectors ")


def test_a_second_run_takes_the_choice_that_is_there(tmp_path, monkeypatch):
    first = lo.tune(tunable(), **KNN, out=tmp_path)
    written = (tmp_path / "choice.json").read_bytes()
    stamp = (tmp_path / "choice.json").stat()
    monkeypatch.setattr(tuning, "choose", lambda *a, **k: pytest.fail("it was searched again"))
    again = lo.tune(tunable(), **KNN, out=tmp_path)
    assert (first.searched, again.searched) == (True, False)
    assert again.document == first.document
    assert again.differences == first.differences
    assert (tmp_path / "choice.json").read_bytes() == written
    assert (tmp_path / "choice.json").stat().st_ino == stamp.st_ino
    monkeypatch.setattr(tuning, "choose", choosing.choose)
    anew = lo.tune(tunable(), **KNN, out=tmp_path, overwrite=True)
    assert anew.searched
    assert (tmp_path / "choice.json").read_bytes() == written


def test_another_request_does_not_replace_a_choice_in_silence(tmp_path):
    lo.tune(tunable(), **KNN, out=tmp_path)
    with pytest.raises(ConfigError, match=r"holds a choice with criterion 'auroc', but 'fpr95_id'"):
        lo.tune(tunable(), **KNN, criterion="fpr95_id", out=tmp_path)
    path = tmp_path / "choice.json"
    path.write_text(path.read_text().replace('"k": 5', '"k": 1'))
    with pytest.raises(StoreError, match="other contents than were written"):
        lo.tune(tunable(), **KNN, out=tmp_path)


def test_the_choice_is_on_the_disk_before_a_reported_row_is_scored(tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "confirm", stop)
    with pytest.raises(KeyboardInterrupt):
        lo.tune(tunable(), **KNN, out=tmp_path)
    assert json.loads((tmp_path / "choice.json").read_text())["best"] == "knn"


def hashed(given, shared):
    """Give all rows digests of their own, but for one that ``shared`` splits have in common."""

    def rows(number, name):
        old = given[name]
        hashes = torch.arange(len(old)) + 1000 * number
        if name in shared:
            hashes[0] = -1
        arrays = {"labels": old["labels"], "logits": old["logits"], "hashes": hashes}
        return Latents(features={"penultimate": old["features/penultimate"]}, name=name, **arrays)

    named = {name: rows(number, name) for number, name in enumerate(given.splits)}
    return SplitsInMemory(named, given.splits, given.header)


@pytest.mark.parametrize("shared", [("odd", "close"), ("val", "id_test"), ("odd", "id_test")])
def test_a_single_row_that_is_chosen_on_and_reported_is_refused(shared):
    with pytest.raises(ConfigError, match=r"no row may be chosen on and reported, but .* 1 of"):
        lo.tune(hashed(tunable(), shared), **KNN)
    assert lo.tune(hashed(tunable(), shared), **KNN, allow_overlap=True).settings
    assert lo.tune(hashed(tunable(), ()), **KNN).settings


def test_rows_shared_among_reported_splits_are_left_to_score():
    assert lo.tune(hashed(tunable(), ("close", "id_test")), **KNN).settings


def test_without_a_split_to_report_on_there_is_a_choice_and_no_comparison(tmp_path):
    given = tunable()
    kept = {name: rows for name, rows in given.latents.items() if name not in REPORTED}
    splits = SplitsInMemory(kept, {name: given.splits[name] for name in kept}, given.header)
    choice = lo.tune(splits, **KNN)
    assert (choice.comparison, choice.differences) == (None, [])
    files = lo.publish_choice(choice, tmp_path, tracking="none")
    assert set(files.results) == {"choice"}


def test_a_choice_is_published_with_its_results_and_both_runs(tmp_path):
    choice = lo.tune(tunable(), **KNN)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    files = lo.publish_choice(choice, tmp_path / "out", tracking=uri)
    assert set(files.results) == {"choice", "csv", "json", "scores", "classes"}
    assert all(path.exists() for path in files.results.values())
    assert files.tracking == uri
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    tuned = [r for r in runs.values() if r.data.tags["mlflow.source.name"] == "latentood tune"]
    assert len(tuned) == 1
    assert tuned[0].data.tags["latentood.comparison"] in runs
