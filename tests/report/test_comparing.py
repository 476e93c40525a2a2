"""The files of a comparison of models."""

import csv
import json

import pytest

import latentood as lo
from latentood.errors import ConfigError
from latentood.report import comparing
from latentood.report.comparing import as_json, write_models
from tests.test_workflow_comparing import compare, seeded, store


@pytest.fixture(scope="module")
def compared():
    return compare(seeded(0), seeded(1), store(noise=1.0, seed=7, changed=["noise"]))


def test_the_document_has_all_lines_and_says_what_is_paired(compared):
    document = json.loads(json.dumps(as_json(compared)))
    assert document["reference"] == "store #1"
    assert [[one["seed"] for one in model["stores"]] for model in document["models"]] == [
        [0, 1], [None],
    ]  # fmt: skip
    assert {one["split"]: one["paired"] for one in document["splits"]} == {
        "id_test": True, "close": True, "noise": False,
    }  # fmt: skip
    for line, one in zip(document["lines"], compared.lines, strict=True):
        assert (line["value"], line["seeds"]) == (one.value, list(one.seeds))
        assert (line["seed_sd"] is None) == (one.model == "store #3")
        assert (line["gap"] is None) == (one.model == "store #1")
        if one.gap is not None:
            assert (line["gap"]["p_holm"], line["gap"]["paired"]) == (
                one.gap.p_holm, one.of == "near",
            )  # fmt: skip
    first, second = document["predictions"]
    assert first["gap"] is None
    assert second["accuracy"] - first["accuracy"] == pytest.approx(second["gap"]["value"])
    assert second["nll_low"] < second["nll"] < second["nll_high"]


def test_the_table_has_a_line_for_each_average_and_metric(compared, tmp_path):
    files = write_models(compared, tmp_path)
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(compared.lines)
    for row, line in zip(rows, compared.lines, strict=True):
        assert (row["model"], row["metric"], row["of"]) == (line.model, line.metric, line.of)
        assert [float(one) for one in row["seeds"].split()] == list(line.seeds)
        if line.gap is None:
            assert row["gap_value"] == row["reference"] == ""
        else:
            assert (float(row["gap_low"]), row["reference"]) == (line.gap.low, "store #1")
    assert json.loads(files["json"].read_text()) == json.loads(json.dumps(as_json(compared)))


def test_files_are_replaced_together_or_not_at_all(compared, tmp_path, monkeypatch):
    files = write_models(compared, tmp_path)
    before = {path: path.read_bytes() for path in files.values()}

    def full(comparison):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(comparing, "as_json", full)
    with pytest.raises(ConfigError, match=r"compare: .* not \(No space left on device\)"):
        write_models(compared, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert isinstance(compared, lo.ModelComparison)
