"""The tables of the docs say what the figures say."""

from tests.benchmarks.tables import as_ratio, tables
from tests.benchmarks.timing import Ratio


def measured(**changes):
    values = {
        "name": "knn", "rival": "another", "median": 0.25, "low": 0.2, "high": 0.8,
        "ours_seconds": 1.0, "rival_seconds": 4.0, "goal": 0.3, "detail": "some rows",
    }  # fmt: skip
    return Ratio(**values | changes).to_json() | {"load": 0.5}


def run(*ratios):
    machine = {"cpu": "a processor", "cores": 2}
    return {"when": "2026-01-02T03:04:05", "machine": machine, "quick": False, "ratios": ratios}


def test_a_line_holds_the_ratio_its_range_and_whether_the_goal_is_met():
    text = tables(run(measured(), measured(median=0.9)))
    assert text.startswith("Measured 2026-01-02 on 2 cores of a processor, load average 0.5 to 0.5")
    lines = text.splitlines()
    assert lines[-2] == "| knn | another | 1/4 [1/5, 0.8] | ✓ 1/3.33 | 1 | 4 | some rows |"
    assert "| 0.9 [1/5, 0.8] | ✗ 1/3.33 |" in lines[-1]


def test_small_parts_are_added_up():
    text = tables(run(measured(parts={"large": 98.0, "one": 0.9, "two": 0.6, "three": 0.5})))
    assert text.splitlines()[-2:] == ["| large | 98.00 |", "| the other 3 | 2.00 |"]


def test_ratios_below_a_half_are_written_as_people_say_them():
    assert [as_ratio(value) for value in (0.004, 0.499, 0.5, 12.345)] == [
        "1/250", "1/2", "0.5", "12.3",
    ]  # fmt: skip
