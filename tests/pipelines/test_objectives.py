"""The recipe of every objective runs from training to scores, and its table can be made."""

import csv
import math

import pytest

from latentood.training.objectives import OBJECTIVES as KNOWN
from tests.benchmarks.objectives import COLUMNS, OBJECTIVES, lines

NOT_FOR_CLASSES = {"pixel_cross_entropy", "own_loss"}


def test_the_recipe_is_tried_with_every_objective_for_classes():
    assert set(OBJECTIVES) == set(KNOWN.built_in) - NOT_FOR_CLASSES


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_trained_extracted_and_scored(trained, name):
    folder, found = trained(name)
    with (folder / "run" / "history.csv").open(newline="") as file:
        losses = [float(line["loss"]) for line in csv.DictReader(file)]
    assert losses[-1] < losses[0]
    assert found.accuracy > 2 / 8, "no better than chance"
    assert 0 <= found.calibration_error <= 1
    detectors = {result.request.detector for result in found.comparison.results}
    assert detectors == {"msp", "energy", OBJECTIVES[name][1]}
    assert {row.split for row in found.own.rows} == {"held_out", "photos", "gaussian"}
    assert not found.comparison.failed


def test_what_only_an_objective_gives_is_no_post_hoc_detector(trained):
    of = {name: {r.request.detector for r in trained(name)[1].post_hoc} for name in OBJECTIVES}
    assert of["evidential"] == of["posterior"] == of["prototypes"] == {"msp", "energy"}
    assert of["cross_entropy"] == {"msp", "energy"}


def test_the_table_has_a_line_for_each_objective(trained):
    _, found = trained("prior")
    header, _, line = lines(iter([found]))
    assert header.count("|") == line.count("|") == len(COLUMNS) + 1
    near = found.own.averages["near"]
    assert f"{near.auroc:.3f} [{near.auroc_low:.3f}, {near.auroc_high:.3f}]" in line
    assert f"{found.accuracy:.1%}" in line
    assert not math.isnan(found.calibration_error)
