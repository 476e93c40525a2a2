"""Figures show the right data and leave nothing behind."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentood.evaluation.metrics import auroc
from latentood.report import plots

scores = arrays(np.float64, st.integers(1, 40), elements=st.integers(-4, 4).map(float))


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_the_area_under_the_drawn_curve_is_the_auroc(ids, oods):
    flagged, caught = plots.roc_curve(ids, oods)
    assert (flagged[0], caught[0], flagged[-1], caught[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(caught, flagged) == pytest.approx(auroc(ids, oods), abs=1e-12)


def test_a_long_curve_is_thinned_but_keeps_its_area():
    rng = np.random.default_rng(0)
    ids, oods = rng.normal(0, 1, 20000), rng.normal(1, 1, 20000)
    flagged, caught = plots.roc_curve(ids, oods)
    assert len(flagged) <= 1001
    assert np.trapezoid(caught, flagged) == pytest.approx(auroc(ids, oods), abs=1e-3)


def test_the_roc_legend_names_each_split_with_auroc_and_interval(comparison):
    result = comparison.results[0]
    axes = plots.roc(result, comparison.sides(result), "peak · logits").axes[0]
    row = result.rows[0]
    expected = f"close (near)  {row.auroc:.3f} [{row.auroc_low:.3f}, {row.auroc_high:.3f}]"
    assert labels(axes)[0] == expected
    assert len(labels(axes)) == 3
    assert axes.get_xlabel() == "share of ID flagged as OOD"
    assert axes.get_ylabel() == "share of OOD caught"
    assert axes.get_title(loc="left") == "peak · logits"


def test_near_and_far_have_different_lines(comparison):
    result = comparison.results[0]
    axes = plots.roc(result, comparison.sides(result), "").axes[0]
    styles = {line.get_label().split()[0]: line.get_linestyle() for line in axes.lines[1:]}
    assert styles["close"] != styles["noise"] == styles["texture"]


def test_the_histogram_shows_every_row_of_every_split(comparison):
    result = comparison.results[1]
    axes = plots.histogram(result, comparison.sides(result), "").axes[0]
    drawn = {
        patch.get_label().partition(",")[0]: patch.get_data().values.sum() for patch in axes.patches
    }
    names = ["ID", "close (near)", "noise (far)", "texture (far)"]
    assert drawn == pytest.approx(dict.fromkeys(names, 1.0))


def test_outliers_do_not_squeeze_the_histogram_flat_and_that_is_said(comparison):
    result = comparison.results[1]
    far = {**result.scores, "noise": result.scores["noise"] * 1e6}
    changed = dataclasses.replace(result, scores=far)
    axes = plots.histogram(changed, comparison.sides(changed), "").axes[0]
    id_scores = result.scores["id_test"]
    low, high = axes.get_xlim()
    assert (np.ptp(id_scores)) / (high - low) > 0.05
    assert "rows beyond the axis are in the outermost bins" in axes.get_xlabel()


def test_id_and_near_rows_fill_the_histogram_however_far_the_others_are(comparison):
    result = comparison.results[1]
    scores = {**result.scores, "noise": result.scores["noise"] * 50, "close": np.r_[0.0:20.0:70j]}
    changed = dataclasses.replace(result, scores=scores)
    axes = plots.histogram(changed, comparison.sides(changed), "").axes[0]
    low, high = axes.get_xlim()
    kept = np.concatenate([scores["id_test"], scores["close"]])
    assert np.ptp(np.clip(kept, low, high)) / (high - low) > 0.8
    assert np.ptp(scores["id_test"]) / (high - low) > 0.2
    heights = [patch.get_data().values[:-1].max() for patch in axes.patches]
    assert max(heights) < axes.get_ylim()[1] < 1  # the rows of noise, all in the last bin
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert "noise (far), 100.0% →" in names


def test_a_name_is_drawn_as_it_is_written(comparison):
    result = comparison.results[0]
    rows = (dataclasses.replace(result.rows[0], split="a$_\x1b[31m$"),)
    odd = dataclasses.replace(result, rows=rows)
    sides = {rows[0].split: (result.scores["id_test"], np.ones(3))}
    for figure in (plots.roc(odd, sides, "$\\x$"), plots.histogram(odd, sides, "$\\x$")):
        figure.draw_without_rendering()  # an error where it takes the name for a formula
        assert figure.axes[0].get_title(loc="left") == r"\$\x\$"
    assert labels(plots.roc(odd, sides, "").axes[0])[0].startswith(r"a\$_\x1b[31m\$ (near)")


def test_equal_scores_can_be_drawn(comparison):
    result = comparison.results[1]
    flat = {name: np.ones_like(values) for name, values in result.scores.items()}
    same = dataclasses.replace(result, scores=flat)
    low, high = plots.histogram(same, comparison.sides(same), "").axes[0].get_xlim()
    assert low < 1 < high


def test_the_ranking_has_one_line_per_detector_best_on_top(comparison):
    axes = plots.ranking(comparison).axes[0]
    best = comparison.ranked[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == f"{comparison.title(best.request)} · {best.request.layer}"
    assert len(names) == 3
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_the_ranking_shows_chance_and_has_its_legend_above_the_rows(comparison):
    figure = plots.ranking(comparison)
    figure.draw_without_rendering()
    axes, (legend,) = figure.axes[0], figure.legends
    assert "chance" in [text.get_text() for text in legend.get_texts()]
    low, high = axes.get_xlim()
    assert low < 0.5 < high
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1


def test_seventy_rows_of_a_ranking_keep_their_names_apart(comparison):
    many = dataclasses.replace(comparison, results=comparison.results[:1] * 70)
    figure = plots.ranking(many)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(low.y1 <= high.y0 for high, low in itertools.pairwise(boxes))


def test_figures_can_be_saved_and_pyplot_is_never_touched(comparison, tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plots.save(plots.ranking(comparison), tmp_path / "ranking.png")
    assert (tmp_path / "ranking.png").read_bytes().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_right_and_wrong_predictions_are_drawn_as_shares_of_each():
    edges = [0.0, 0.5, 1.0]
    statistics = {
        "rows": {"right": 4, "wrong": 2},
        "uncertainty": {"edges": edges, "right": [3, 1], "wrong": [0, 2]},
        "probability": {"edges": edges, "right": [1, 3], "wrong": [2, 0]},
    }
    left, right = plots.certainty(statistics, "a$").axes
    drawn = [[patch.get_data().values.tolist() for patch in axes.patches] for axes in (left, right)]
    assert drawn == [[[0.75, 0.25], [0, 1]], [[0.25, 0.75], [1, 0]]]
    assert labels(left) == ["right (4 rows)", "wrong (2 rows)"]
    assert "uncertainty" in left.get_xlabel()
    assert "probability" in right.get_xlabel()
