"""Results of every format are read; what does not belong together is refused."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentood.errors import ConfigError
from latentood.report.html import read_document
from latentood.report.html.curves import series_of
from latentood.report.html.document import NEWEST
from latentood.report.html.extras import Extras
from latentood.report.html.panels import see
from tests.report.html.results import SPLITS, write

GRID = [("knn", "penultimate", {"k": 10}), ("knn", "penultimate", {"k": 50}), ("vim", "fc", {})]


def test_those_that_cannot_be_told_from_the_best_come_first_then_the_highest_auroc(tmp_path):
    def second_is_best(facts):
        for one in facts["averages"]:
            one["best"] = one["detector"] == "vim"

    document = read_document(write(tmp_path, detectors=GRID, change=second_is_best))
    assert [one.title for one in document.entries] == ["vim", "knn k=50", "knn k=10"]
    assert [one.leads for one in document.entries] == [2, 0, 0]
    aurocs = [one.mean_auroc for one in document.entries]
    assert aurocs[1] > aurocs[2]


def test_a_test_of_the_mean_over_roles_decides_before_those_of_the_roles(tmp_path):
    def tested(facts):
        facts["standings"] = [
            {k: one[k] for k in ("detector", "layer", "hyperparameters")}
            | {"of": "auroc", "best": one["hyperparameters"] == {"k": 10}, "p_value": 0.5}
            for one in facts["fitted"]
        ]

    document = read_document(write(tmp_path, detectors=GRID, change=tested))
    assert [one.title for one in document.entries] == ["knn k=10", "knn k=50", "vim"]
    assert [one.leads for one in document.entries] == [1, 0, 0]


def test_results_of_the_first_format_are_read(tmp_path):
    document = read_document(write(tmp_path, form=1))
    (first, _) = document.entries
    assert first.leads == 0
    assert first.selective == {}
    # three OOD splits of 60 rows took 0.25 s each
    assert first.cost == {"fit_seconds": 0.5, "us_per_row": pytest.approx(1e6 * 0.75 / 180)}
    assert "auroc_low" in first.rows["close"]
    assert "fpr95_id_low" not in first.rows["close"]


def test_intervals_of_members_join_their_rows(tmp_path):
    def of_members(facts):
        asked = {k: facts["fitted"][0][k] for k in ("detector", "layer", "hyperparameters")}
        found = {"split": "close", "metric": "fpr95_id", "low": 0.25, "high": 0.75}
        facts["intervals"] = [asked | found]

    document = read_document(write(tmp_path, form=1, change=of_members))
    first = next(one for one in document.entries if one.title == "knn")
    assert (first.rows["close"]["fpr95_id_low"], first.rows["close"]["fpr95_id_high"]) == (
        0.25,
        0.75,
    )
    assert "fpr95_id_low" not in first.rows["noise"]


def test_splits_are_listed_by_role_and_scores_are_those_that_were_written(tmp_path):
    document = read_document(write(tmp_path))
    assert list(document.roles.items()) == [(name, role) for name, (role, _) in SPLITS.items()]
    rows = document.scores.rows["test"]
    assert rows.ids[:2] == ["test-0", "test-1"]
    assert rows.labels[:4].tolist() == [0, 1, 2, 0]
    assert document.scores.rows["close"].labels[:2].tolist() == [-1, -1]
    assert rows.ood is None
    assert {len(one) for one in document.scores.of(document.entries[0].name).values()} == {60}


def test_without_an_ood_split_there_is_no_mean(tmp_path):
    document = read_document(write(tmp_path, splits={"test": ("id", 0.0)}))
    assert all(math.isnan(one.mean_auroc) for one in document.entries)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "results.json").unlink(), r"there is no .*results\.json; run"),
        (lambda folder: (folder / "results.json").write_text("{"), r"results\.json cannot be read"),
        (
            lambda folder: (folder / "results.json").write_text("[]"),
            r"results\.json cannot be read",
        ),
        (lambda folder: (folder / "scores.parquet").unlink(), r"scores\.parquet cannot be read"),
        (lambda folder: (folder / "scores.parquet").write_text("x"), r"scores\.parquet cannot be"),
    ],
)
def test_files_that_are_missing_or_broken_are_named(tmp_path, damage, message):
    folder = write(tmp_path / "results")
    damage(folder)
    with pytest.raises(ConfigError, match=rf"^report: .*{message}") as error:
        read_document(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", [0, NEWEST + 1, "2", None])
def test_another_format_is_named(tmp_path, form):
    folder = write(tmp_path, change=lambda facts: facts.update(format=form))
    message = f"must be of format 1 to {NEWEST}, got {form!r} in .*; install the version"
    with pytest.raises(ConfigError, match=message):
        read_document(folder)


def other_detector(facts):
    for kind in ("rows", "averages", "fitted", "cost", "selective"):
        for one in facts[kind]:
            one["hyperparameters"] = {"k": 7}


def other_scores(facts):
    facts["rows"][0]["auroc"] += 1e-6


def other_rows(facts):
    facts["rows"][0]["n_ood"] += 1


@pytest.mark.parametrize("change", [other_detector, other_scores, other_rows])
def test_scores_of_another_comparison_are_refused(tmp_path, change):
    folder = write(tmp_path, change=change)
    with pytest.raises(ConfigError, match=r"scores\.parquet must be of the comparison in results"):
        see(read_document(folder), Extras())


def test_names_of_the_files_hold_what_json_and_parquet_say(tmp_path):
    own = {"weights": [0.5, 1.5], "name": "ä", "limit": "inf"}
    folder = write(tmp_path, detectors=[("d", "l", own)])
    (entry,) = read_document(folder).entries
    assert entry.hyperparameters == own
    assert json.loads(entry.name[2]) == own


def test_a_column_of_ood_rows_is_read_where_there_is_one(tmp_path):
    path = write(tmp_path, splits={"test": ("id", 0.0), "road": ("mixed", 1.0)}) / "scores.parquet"
    old = pq.ParquetFile(path)
    groups = [old.read_row_group(number) for number in range(old.num_row_groups)]
    states = pa.array([n % 2 for n in range(60)], pa.uint8())
    tables = [one.append_column("ood", states) for one in groups]
    with pq.ParquetWriter(path, tables[0].schema) as file:
        for one in tables:
            file.write_table(one)
    document = read_document(tmp_path)
    assert document.scores.rows["road"].ood[:4].tolist() == [0, 1, 0, 1]
    series = series_of(document.roles, document.scores.rows)
    assert [(one.split, one.state) for one in series] == [("test", 0), ("road", 0), ("road", 1)]
