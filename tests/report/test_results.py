"""Results files hold the comparison, whole or not at all."""

import csv
import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from latentood.errors import ConfigError
from latentood.evaluation.comparison import Request, Unscored
from latentood.evaluation.scoring import score_all
from latentood.report import results
from latentood.report.results import as_json, plain, write_results
from latentood.report.table import as_text
from tests.evaluation.members.examples import First, box_splits

METRICS = [
    "auroc", "aupr_out", "aupr_in", "fpr95_ood", "fpr95_id", "detection_error", "aupr_out_at",
    "autc",
]  # fmt: skip
NUMBERS = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
COLUMNS = [
    "detector", "layer", "split", "role", "n_id", "n_ood", *NUMBERS, "fit_seconds",
    "score_seconds", "hyperparameters",
]  # fmt: skip


def test_the_csv_gives_every_number_back(comparison, files):
    with files["csv"].open(newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    assert reader.fieldnames == COLUMNS
    assert len(lines) == 9
    for line, row in zip(lines, comparison.rows, strict=True):
        for name in NUMBERS:
            assert float(line[name]) == getattr(row, name)
        assert (line["split"], int(line["n_ood"])) == (row.split, row.n_ood)
    assert json.loads(lines[-1]["hyperparameters"])["weights"] == [0.5, 1.5]


def test_the_json_gives_rows_averages_and_provenance_back(comparison, files):
    document = json.loads(files["json"].read_text())
    assert document == as_json(comparison)
    assert document["rows"][4]["auroc"] == comparison.rows[4].auroc
    far = [entry for entry in document["averages"] if entry["role"] == "far"]
    assert far[1]["auroc_low"] == comparison.results[1].averages["far"].auroc_low
    assert document["provenance"]["weights"] == "a1" * 32
    assert document["id"] == {
        "split": "id_test",
        "rows": 90,
        "accuracy": comparison.id_split.accuracy,
    }
    assert [one["auroc"] for one in document["wrong_predictions"]] == [
        result.wrong.auroc for result in comparison.results
    ]
    assert document["failed"][0]["reason"].startswith("broken: ")
    assert document["skipped"][0]["detector"] == "entropic"
    assert document["fitted"][1]["provenance"]["fit"]["rows"] == 120


def test_the_parquet_gives_every_score_back(comparison, files):
    table = pq.read_table(files["scores"])
    assert table.column_names == [
        "split", "row", "id", "label", "prediction", "ood", "detector", "layer", "score",
        "hyperparameters",
    ]  # fmt: skip
    frame = table.to_pandas()
    assert len(frame) == 3 * (90 + 70 + 50 + 50)
    settings = frame["hyperparameters"].astype(str)
    squared = frame[settings.str.contains('"power": 2.0') & (frame["split"] == "noise")]
    result, split = comparison.results[2], comparison.splits[2]
    assert split.name == "noise"
    np.testing.assert_array_equal(squared["score"], result.scores["noise"])
    np.testing.assert_array_equal(squared["label"], split.labels)
    np.testing.assert_array_equal(squared["prediction"], split.predictions)
    np.testing.assert_array_equal(squared["row"], np.arange(50))
    assert list(squared["id"]) == list(split.ids)
    assert set(squared["detector"]) == {"distance"}
    assert set(squared["layer"]) == {"penultimate"}


def test_the_parquet_has_a_row_group_per_detector_and_split(files):
    assert pq.ParquetFile(files["scores"]).num_row_groups == 3 * 4


def test_rows_without_label_are_null_and_odd_file_names_are_kept_readable(comparison, tmp_path):
    split = comparison.splits[0]
    ids = ["caf\udce9.png", *split.ids[1:]]  # é in Latin-1, as a file system may hold it
    changed = dataclasses.replace(split, ids=ids, labels=np.full_like(split.labels, -1))
    odd = dataclasses.replace(comparison, splits=(changed, *comparison.splits[1:]))
    table = pq.read_table(write_results(odd, tmp_path)["scores"])
    assert table["id"][0].as_py() == "caf\N{REPLACEMENT CHARACTER}.png"
    assert table["label"][0].as_py() is None
    assert table["prediction"][0].as_py() is not None


def test_a_comparison_of_failures_alone_is_written(comparison, tmp_path):
    empty = dataclasses.replace(comparison, results=())
    written = write_results(empty, tmp_path)
    assert pq.read_table(written["scores"]).num_rows == 0
    assert json.loads(written["json"].read_text())["failed"]


@pytest.mark.parametrize("write", ["_write_csv", "_write_json", "_write_scores", "_write_classes"])
def test_a_crash_at_any_file_leaves_all_old_files_and_nothing_else(
    comparison, tmp_path, monkeypatch, write
):
    write_results(comparison, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def torn(comparison, path):
        path.write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(results, write, torn)
    seconds = dict.fromkeys(comparison.shared_seconds, 0.0)
    with pytest.raises(KeyboardInterrupt):
        write_results(dataclasses.replace(comparison, results=(), shared_seconds=seconds), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert sorted(before) == ["classes.csv", "results.csv", "results.json", "scores.parquet"]


def test_a_folder_that_cannot_be_made_is_named(comparison, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        ConfigError, match=r"^results: .*taken must be a folder that .* another --out"
    ):
        write_results(comparison, tmp_path / "taken")


def test_what_json_cannot_hold_is_written_as_it_is_called():
    value = {"w": torch.tensor([1.0, float("nan")]), "k": (1, float("inf")), "none": None}
    assert plain(value) == {"w": [1.0, "nan"], "k": [1, "inf"], "none": None}


def test_hyperparameters_that_are_tensors_can_be_written(comparison, tmp_path):
    request = Request("weighted", "logits", {"w": torch.ones(3)})
    odd = dataclasses.replace(comparison, failed=(Unscored(request, "weighted: no"),))
    document = json.loads(write_results(odd, tmp_path)["json"].read_text())
    assert document["failed"][0]["hyperparameters"] == {"w": [1.0, 1.0, 1.0]}


NASTY = "a\x1b[31m\x9b2J\x7f\r\nb"


def test_no_control_character_of_a_name_reaches_a_text(comparison, renamed, tmp_path):
    result = comparison.results[0]
    rows = [dataclasses.replace(row, detector=NASTY, layer=NASTY) for row in result.rows]
    rows[-1] = dataclasses.replace(rows[-1], split=NASTY)
    scores = {**result.scores, NASTY: result.scores["texture"]}
    request = Request(NASTY, NASTY, {NASTY: NASTY})
    odd = dataclasses.replace(
        renamed(pipeline={"name": NASTY, "model": {"weights": "caf\udce9.pt"}}),
        results=(dataclasses.replace(result, rows=tuple(rows), request=request, scores=scores),),
        failed=(Unscored(request, f"{NASTY}: no"),),
        splits=(*comparison.splits[:-1], dataclasses.replace(comparison.splits[-1], name=NASTY)),
    )
    written = write_results(odd, tmp_path)
    texts = [written["csv"].read_bytes().decode(), written["json"].read_text(), as_text(odd)]
    lines = [line for text in texts for line in text.replace("\r\n", "\n").split("\n")]
    assert all(line.isprintable() for line in lines)
    assert json.loads(texts[1])["failed"][0]["detector"] == NASTY
    assert json.loads(texts[1])["provenance"]["pipeline"]["model"]["weights"] == "caf\udce9.pt"
    *_, row = csv.DictReader(texts[0].splitlines())
    assert row["split"] == r"a\x1b[31m\x9b2J\x7f\r\nb"


def test_no_password_reaches_a_results_file(renamed, tmp_path):
    model = {"weights": "https://user:secret@host/x.pt"}
    text = write_results(renamed(pipeline={"model": model}), tmp_path)["json"].read_text()
    assert "secret" not in text
    assert "https://***@host/x.pt" in text


def test_metrics_about_unknown_objects_are_in_the_json_and_in_the_table(tmp_path):
    comparison = score_all(box_splits(), [First()], unit="box")
    (entry,) = json.loads(write_results(comparison, tmp_path)["json"].read_text())["open_set"]
    metrics = comparison.results[0].open_set["street"]
    assert (entry["detector"], entry["layer"], entry["split"]) == ("first", "logits", "street")
    for name in ("threshold", "aose", "ap_unknown", "recall_unknown", "ap_known", "note"):
        assert entry[name] == metrics[name]
    lines = as_text(comparison).splitlines()
    start = lines.index(
        "unknown objects at the threshold that keeps 95% of ID boxes of id_test: street"
    )
    assert lines[start + 1].split()[2:6] == ["recall", "precision", "AP", "AOSE"]
    numbers = [f"{metrics[f'{name}_unknown']:.4f}" for name in ("recall", "precision", "ap")]
    assert lines[start + 2].split()[2:6] == [*numbers, str(metrics["aose"])]
    assert "metrics are of pixels" not in as_text(comparison)


def test_a_metric_that_cannot_be_computed_is_null_and_said_once(tmp_path):
    comparison = score_all(box_splits(), [First(), First(width=2.0)], unit="box")
    without = [
        dataclasses.replace(
            one,
            open_set={"street": {**one.open_set["street"], "ap_known": None, "note": "no extra"}},
        )
        for one in comparison.results
    ]
    changed = dataclasses.replace(comparison, results=tuple(without))
    entries = json.loads(write_results(changed, tmp_path)["json"].read_text())["open_set"]
    assert [(one["ap_known"], one["note"]) for one in entries] == [(None, "no extra")] * 2
    text = as_text(changed)
    assert text.count("no extra") == 1
    assert "—" in text
