"""The command ``report`` writes a page, and says where."""

import json

import pytest

from tests.cli.test_commands import run
from tests.report.html.results import write


@pytest.fixture
def results(tmp_path):
    return write(tmp_path / "results")


def test_the_page_is_written_and_named(capsys, results, tmp_path):
    status, out, err = run(capsys, "report", results, "--out", tmp_path / "page.html")
    assert status == 0, err
    assert out.startswith(f"report:  {tmp_path / 'page.html'} (")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_as_json(capsys, results, tmp_path):
    status, out, _ = run(capsys, "report", results, "--out", tmp_path / "page.html", "--json")
    assert status == 0
    size = (tmp_path / "page.html").stat().st_size
    assert json.loads(out) == {"report": str(tmp_path / "page.html"), "bytes": size}


def test_a_folder_without_results_is_an_error_in_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "report", tmp_path, "--out", tmp_path / "page.html")
    assert status == 1
    assert err.strip().startswith("error: report: must be given a results folder or a cache")
    assert err.strip().count("\n") == 0
