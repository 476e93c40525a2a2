"""What runs say, within MLflow's limits."""

import dataclasses
import json
import subprocess

from latentood.report import runs


def test_the_mean_auroc_and_the_mean_fpr95_come_first_however_metrics_are_sorted(comparison):
    names = list(runs.child_metrics(comparison.results[0]))
    assert names[:3] == ["mean.auroc", "mean.fpr95_id", "mean.fpr95_ood"]
    assert sorted(names, key=str.casefold)[:3] == names[:3]
    assert len(names) <= 10


def test_every_column_of_the_view_is_there(comparison):
    view = json.loads(runs.view_tags()[f"mlflow.sharedViewState.{runs.VIEW}"])
    metrics = runs.child_metrics(comparison.results[0])
    params = runs.child_params(comparison.results[0].request, comparison)
    known = {f"metrics.`{name}`" for name in metrics} | {f"params.`{name}`" for name in params}
    assert set(view["selectedColumns"]) <= known
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`mean.auroc`", False)


def test_two_checkpoints_have_comparisons_of_different_names(renamed):
    provenance = {"created": "2026-01-02T03:04:05+00:00", "weights": "b2" * 32}
    first = renamed(**provenance, pipeline={"name": "blobs", "model": {"weights": "w/last.pt"}})
    other = renamed(**{**provenance, "weights": "c3" * 32}, pipeline={"name": "blobs"})
    assert runs.name(first) == "blobs · b2b2b2b2 last.pt · 2026-01-02 03:04:05"
    assert runs.name(other) == "blobs · c3c3c3c3 · 2026-01-02 03:04:05"
    assert runs.name(renamed(**{**provenance, "weights": None}, pipeline={})) == provenance[
        "created"
    ][:19].replace("T", " ")


def test_the_weights_of_an_ensemble_are_counted(renamed):
    model = {"weights": ["runs/0/w.pt", "runs/1/w.pt"]}
    given = renamed(weights="b2" * 32, pipeline={"model": model})
    assert runs.weights(given) == "b2b2b2b2 2 members"


def test_a_hyperparameter_called_weights_is_kept_beside_those_of_the_model(comparison):
    params = runs.child_params(comparison.results[2].request, comparison)
    assert (params["weights"], params["model.weights"]) == ("[0.5, 1.5]", "a1a1a1a1")


def test_the_table_ends_with_the_means_of_near_and_far_and_the_wrong_predictions(comparison):
    result = comparison.results[0]
    table = json.loads(runs.table(result))
    lines = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
    assert [line["split"] for line in lines[3:]] == ["mean of near", "mean of far", "id_test"]
    assert (lines[5]["role"], lines[5]["auroc"]) == ("wrong", result.wrong.auroc)
    far = result.averages["far"]
    numbers = (lines[4]["auroc"], lines[4]["auroc_low"], lines[4]["auroc_high"])
    assert numbers == (far.auroc, far.auroc_low, far.auroc_high)
    assert lines[4]["n_ood"] is None
    assert lines[0]["fpr95_id"] == result.rows[0].fpr95_id


def test_no_control_character_and_no_password_reaches_a_run(renamed):
    odd = renamed(pipeline={"name": "a\x1b[31m", "model": {"weights": "s3://u:pw@b/w\x9b.pt"}})
    texts = [runs.name(odd), *runs.shared_tags(odd).values(), *runs.parent_params(odd).values()]
    assert all(text.isprintable() and "pw" not in text for text in texts)


def test_long_texts_are_cut_to_what_mlflow_takes(comparison, renamed):
    request = dataclasses.replace(
        comparison.results[0].request, hyperparameters={"w": [0.125] * 5000}
    )
    assert len(runs.child_params(request, comparison)["w"]) == 5000
    assert len(runs.shared_tags(renamed(digest="x" * 9000))["latentood.fingerprint"]) == 5000


def test_digests_fit_and_the_whole_fingerprint_is_in_the_profile(comparison):
    facts = runs.data_facts(comparison)[0]
    assert facts.digest == "t" * 36
    assert "t" * 64 in facts.profile


def test_the_git_revision_is_that_of_the_current_folder(comparison, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "latentood.git_revision" not in runs.shared_tags(comparison)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert runs.shared_tags(comparison)["latentood.git_revision"] == head.stdout.strip()
