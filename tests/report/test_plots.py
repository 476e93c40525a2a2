"""Figures show the right data and leave nothing behind."""

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
    axes = plots.roc(result, "id_test", "peak · logits").axes[0]
    row = result.rows[0]
    expected = f"close (near)  {row.auroc:.3f} [{row.auroc_low:.3f}, {row.auroc_high:.3f}]"
    assert labels(axes)[0] == expected
    assert len(labels(axes)) == 3
    assert "id_test" in axes.get_xlabel()
    assert axes.get_ylabel() == "share of OOD caught"
    assert axes.get_title(loc="left") == "peak · logits"


def test_near_and_far_have_different_lines(comparison):
    axes = plots.roc(comparison.results[0], "id_test", "").axes[0]
    styles = {line.get_label().split()[0]: line.get_linestyle() for line in axes.lines[1:]}
    assert styles["close"] != styles["noise"] == styles["texture"]


def test_the_histogram_shows_every_row_of_every_split(comparison):
    axes = plots.histogram(comparison.results[1], "id_test", "").axes[0]
    drawn = {patch.get_label(): patch.get_data().values.sum() for patch in axes.patches}
    names = ["id_test (id)", "close (near)", "noise (far)", "texture (far)"]
    assert drawn == pytest.approx(dict.fromkeys(names, 1.0))


def test_outliers_do_not_squeeze_the_histogram_flat_and_that_is_said(comparison):
    result = comparison.results[1]
    far = {**result.scores, "noise": result.scores["noise"] * 1e6}
    axes = plots.histogram(type(result)(**{**vars(result), "scores": far}), "id_test", "").axes[0]
    id_scores = result.scores["id_test"]
    low, high = axes.get_xlim()
    assert (np.ptp(id_scores)) / (high - low) > 0.05
    assert "rows beyond the axis are in the outermost bins" in axes.get_xlabel()


def test_equal_scores_can_be_drawn(comparison):
    result = comparison.results[1]
    flat = {name: np.ones_like(values) for name, values in result.scores.items()}
    same = type(result)(**{**vars(result), "scores": flat})
    low, high = plots.histogram(same, "id_test", "").axes[0].get_xlim()
    assert low < 1 < high


def test_the_ranking_has_one_line_per_detector_best_on_top(comparison):
    axes = plots.ranking(comparison).axes[0]
    best = comparison.ranked[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == f"{comparison.title(best.request)} · {best.request.layer}"
    assert len(names) == 3
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_figures_can_be_saved_and_pyplot_is_never_touched(comparison, tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plots.ranking(comparison).savefig(tmp_path / "ranking.png")
    assert (tmp_path / "ranking.png").read_bytes().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before
