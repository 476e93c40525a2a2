"""The curves of a page are those of the metrics, in few numbers."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from latentood.evaluation import metrics
from latentood.report.html.curves import (
    BINS,
    Series,
    curve_of,
    percentiles,
    rank_correlation,
    series_of,
)
from latentood.report.html.scores import Rows

SERIES = [Series("test", "id", 0), Series("close", "near", 1, 0), Series("noise", "far", 1, 0)]


def drawn(rows=3000, seed=0, decimals=None):
    generator = np.random.default_rng(seed)
    sides = [generator.normal(shift, 1, rows) for shift in (0, 1, 3)]
    return sides if decimals is None else [one.round(decimals) for one in sides]


def whole(size):
    none = np.full(size, -1)
    return Rows([str(n) for n in range(size)], none, none, None)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_both_thresholds_of_95_percent_are_exact(decimals):
    ids, *oods = drawn(decimals=decimals)
    curve = curve_of(SERIES, [ids, *oods])
    for place, (caught, scores) in enumerate(zip(curve["caught"], oods, strict=True), start=1):
        accepted = 10_000 - curve["flagged"][place][curve["kept"]]
        assert accepted / 10_000 == pytest.approx(metrics.fpr95_id(ids, scores), abs=5e-5)
        flagged = curve["flagged"][0][caught]
        assert flagged / 10_000 == pytest.approx(metrics.fpr95_ood(ids, scores), abs=5e-5)
        assert curve["flagged"][place][caught] >= 9500
    assert curve["flagged"][0][curve["kept"]] <= 500


def test_the_curve_has_the_area_of_the_auroc_and_goes_from_corner_to_corner():
    ids, *oods = drawn()
    curve = curve_of(SERIES, [ids, *oods])
    assert len(curve["thresholds"]) < 260
    for place, scores in enumerate(oods, start=1):
        x, y = (np.array(curve["flagged"][k]) / 10_000 for k in (0, place))
        assert (x[0], y[0], x[-1], y[-1]) == (1, 1, 0, 0)
        assert -np.trapezoid(y, x) == pytest.approx(metrics.auroc(ids, scores), abs=2e-3)


def test_all_rows_are_in_a_bin_and_the_axis_stays_near_the_id_scores():
    ids, close, _ = drawn()
    curve = curve_of(SERIES, [ids, close, np.full(10, 1e9)])
    assert [sum(one) for one in curve["counts"]] == pytest.approx([10_000] * 3, abs=BINS)
    low, high = curve["range"]
    assert -5 < low < high < 25
    assert curve["counts"][2][-1] == 10_000


def test_equal_scores_have_a_curve_and_an_axis():
    curve = curve_of(SERIES, [np.full(5, 2.0)] * 3)
    assert curve["range"] == [1.5, 2.5]
    assert curve["thresholds"] == [1.99, 2.0]
    assert curve["flagged"] == [[10_000, 0]] * 3
    assert (curve["kept"], curve["caught"]) == (1, [0, 0])


def test_mixed_splits_are_compared_with_their_own_id_rows():
    roles = {"test": "id", "val": "val", "close": "near", "road": "mixed", "street": "mixed"}
    ood = np.array([0, 1, 255, 1])
    rows = {name: whole(4) for name in roles} | {"road": Rows(["a"] * 4, ood, ood, ood)}
    series = series_of(roles, rows)
    assert [(one.split, one.role, one.state, one.against) for one in series] == [
        ("test", "id", 0, None),
        ("road", "id", 0, None),
        ("close", "near", 1, 0),
        ("road", "mixed", 1, 1),
    ]
    scores = {"road": np.arange(4.0)}
    assert series[1].of(scores, rows).tolist() == [0.0]
    assert series[3].of(scores, rows).tolist() == [1.0, 3.0]


def test_without_an_id_split_near_rows_have_no_curve():
    assert series_of({"close": "near"}, {"close": whole(3)}) == []


def test_the_correlation_is_spearmans_and_similar_detectors_stand_together():
    generator = np.random.default_rng(1)
    one, other = generator.normal(size=(2, 500)).round(1)
    scores = np.stack([one, other, one + 0.1 * other, np.exp(other)])
    matrix, order = rank_correlation(scores)
    np.testing.assert_allclose(matrix, spearmanr(scores.T).statistic, atol=1e-12)
    places = {name: place for place, name in enumerate(order)}
    assert abs(places[0] - places[2]) == abs(places[1] - places[3]) == 1


def test_equal_scores_agree_with_nothing():
    matrix, order = rank_correlation(np.array([[1.0, 1, 1], [1, 2, 3]]))
    assert matrix.tolist() == [[1, 0], [0, 1]]
    assert order == [0, 1]


def test_percentiles_count_the_rows_below():
    scores = {"a": np.arange(10.0), "b": np.arange(10.0, 20)}
    assert percentiles(scores, {"a": np.array([0, 9]), "b": np.array([9])}) == [0, 45, 95]
