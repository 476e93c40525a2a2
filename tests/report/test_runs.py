"""What runs say, within MLflow's limits."""

import dataclasses
import re
import subprocess

from latentood.report import runs


def test_metric_names_hold_only_what_mlflow_takes(comparison):
    result = comparison.results[0]
    odd = dataclasses.replace(result, rows=(dataclasses.replace(result.rows[0], split="a#b"),))
    names = runs.child_metrics(odd, comparison)
    assert "auroc.a_b" in names
    assert all(re.fullmatch(r"[\w\-. /:]+", name) for name in names)


def test_a_split_called_near_does_not_collide_with_the_average(comparison):
    result = comparison.results[0]
    odd = dataclasses.replace(result, rows=(dataclasses.replace(result.rows[1], split="near"),))
    metrics = runs.child_metrics(odd, comparison)
    assert metrics["auroc.near"] == result.rows[1].auroc
    assert metrics["near.auroc"] == result.averages["near"].auroc


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
