"""Metrics of float16 histograms against scikit-learn and the metrics of rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from latentood import metrics
from latentood.errors import DataError
from latentood.evaluation.members.histograms import BINS, ScoreHistogram, runs_of, scores_of_bins

NAMES = ("auroc", "aupr_out", "aupr_in", "fpr95_ood", "fpr95_id")


def every_finite_score():
    values = np.arange(BINS, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)]


def drawn(n, seed, spread=2.0):
    """Scores, of which OOD ones are higher, and classes of which some are ignored."""
    rng = np.random.default_rng(seed)
    ood = rng.choice(np.array([0, 1, 255], np.uint8), n, p=(0.7, 0.2, 0.1))
    return rng.normal(ood == 1, spread), ood


def sides(scores, ood):
    return scores[ood == 0], scores[ood == 1]


few = arrays(np.float16, st.integers(1, 60), elements=st.integers(-3, 3).map(float))
any_float16 = arrays(
    np.float16,
    st.integers(1, 60),
    elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
)
scores = st.one_of(few, any_float16)


@settings(deadline=None)
@given(ids=scores, oods=scores)
def test_metrics_equal_those_of_rows_with_ties(ids, oods):
    ood = np.repeat(np.array([0, 1], np.uint8), (len(ids), len(oods)))
    histogram = ScoreHistogram.of(np.concatenate([ids, oods]), ood)
    for name in NAMES:
        expected = getattr(metrics, name)(ids, oods)
        assert getattr(histogram, name)() == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("sign", [1, -1])
def test_metrics_equal_scikit_learn_on_the_stored_scores_and_nearly_on_the_float32_ones(sign):
    exact, ood = drawn(200_000, 0)
    exact = (sign * exact).astype(np.float32)
    histogram = ScoreHistogram.of(exact.astype(np.float16), ood)
    known = ood != 255
    for values, most in ((exact.astype(np.float16).astype(float), 1e-9), (exact, 1e-4)):
        right, values = ood[known] == 1, values[known]
        assert histogram.auroc() == pytest.approx(roc_auc_score(right, values), abs=most)
        out = average_precision_score(right, values)
        assert histogram.aupr_out() == pytest.approx(out, abs=most)
        inside = average_precision_score(~right, -values)
        assert histogram.aupr_in() == pytest.approx(inside, abs=most)
        for name in ("fpr95_ood", "fpr95_id"):
            expected = getattr(metrics, name)(*sides(values, right))
            assert getattr(histogram, name)() == pytest.approx(expected, abs=most)


def test_every_finite_score_has_its_bin_in_order_and_zeros_share_one():
    values = every_finite_score()
    counts = ScoreHistogram.of(values, np.zeros(len(values), np.uint8)).counts[0]
    scores = scores_of_bins().astype(float)
    ascending = scores[np.isfinite(scores)]
    assert np.all(np.diff(ascending[ascending != 0]) > 0)
    assert counts[scores == 0].tolist() == [0, 2]
    assert np.all(counts[np.isfinite(scores) & (scores != 0)] == 1)
    assert counts.sum() == len(values)


def test_histograms_add_up_over_blocks_and_workers_exactly():
    scores, ood = drawn(3000, 1)
    scores = scores.astype(np.float16)
    whole = ScoreHistogram.of(scores.reshape(30, 10, 10), ood.reshape(30, 10, 10))
    parts = [ScoreHistogram.of(scores[start::7], ood[start::7]) for start in range(7)]
    assert np.array_equal(sum(parts).counts, whole.counts)
    one = ScoreHistogram()
    one.add(torch.from_numpy(scores), torch.from_numpy(ood))
    assert np.array_equal((one + ScoreHistogram()).counts, whole.counts)
    assert (one.n_id, one.n_ood) == ((ood == 0).sum(), (ood == 1).sum())


def test_pieces_of_a_block_do_not_change_it(monkeypatch):
    scores, ood = drawn(1000, 2)
    whole = ScoreHistogram.of(scores.astype(np.float16), ood)
    monkeypatch.setattr("latentood.evaluation.members.histograms._PIECE", 64)
    assert np.array_equal(ScoreHistogram.of(scores.astype(np.float16), ood).counts, whole.counts)


def test_counts_beyond_32_bits_keep_their_metrics():
    scores, ood = drawn(2000, 3)
    few = ScoreHistogram.of(scores.astype(np.float16), ood)
    many = ScoreHistogram(few.counts * 2**31)  # 4 · 10¹² members
    for name in NAMES:
        assert getattr(many, name)() == pytest.approx(getattr(few, name)(), abs=1e-12), name


def test_ignored_members_are_never_counted_whatever_their_score():
    scores, ood = drawn(500, 4)
    scores = scores.astype(np.float16)
    scores[ood == 255] = np.nan
    histogram = ScoreHistogram.of(scores, ood)
    assert histogram.counts.sum() == (ood != 255).sum()


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_score_without_rank_is_refused_and_nothing_of_its_block_counted(value):
    scores, ood = drawn(50, 5)
    scores = scores.astype(np.float16)
    scores[np.flatnonzero(ood == 1)[0]] = value
    histogram = ScoreHistogram()
    with pytest.raises(DataError, match=r"must be finite float16, got 1 that are NaN or infinite"):
        histogram.add(scores, ood)
    assert not histogram.counts.any()


def test_wrong_input_is_refused():
    scores, ood = np.zeros(3, np.float16), np.zeros(3, np.uint8)
    with pytest.raises(DataError, match=r"must be 0 \(ID\), 1 \(OOD\) or 255 \(ignore\), got 7"):
        ScoreHistogram.of(scores, np.array([0, 7, 255], np.uint8))
    with pytest.raises(DataError, match=r"must be 0 \(ID\), .* got 254"):
        ScoreHistogram.of(scores, np.array([0, 254, 255], np.uint8))
    with pytest.raises(DataError, match=r"float16 and ood uint8, got float32 and uint8"):
        ScoreHistogram.of(scores.astype(np.float32), ood)
    with pytest.raises(DataError, match=r"float16 and ood uint8, got float16 and int64"):
        ScoreHistogram.of(scores, ood.astype(np.int64))
    with pytest.raises(DataError, match=r"one shape, got \(3,\) and \(1, 3\)"):
        ScoreHistogram.of(scores, ood[None])
    with pytest.raises(DataError, match="auroc: needs ID and OOD members, got 3 and 0"):
        ScoreHistogram.of(scores, ood).auroc()
    with pytest.raises(DataError, match="fpr95_id: needs ID and OOD members, got 0 and 0"):
        ScoreHistogram().fpr95_id()


def test_arrays_of_other_layouts_are_read():
    scores, ood = drawn(600, 6)
    scores, ood = scores.astype(np.float16).reshape(20, 30), ood.reshape(20, 30)
    expected = ScoreHistogram.of(scores, ood).counts
    scores.flags.writeable = False
    turned = ScoreHistogram.of(scores.T, ood.T)
    assert np.array_equal(turned.counts, expected)
    lists = ScoreHistogram.of(scores[::-1, ::-1], ood[::-1, ::-1])
    assert np.array_equal(lists.counts, expected)


@settings(deadline=None)
@given(values=scores, draw=st.integers(0, 2**32 - 1))
def test_runs_are_the_bins_of_the_histogram_that_are_not_empty(values, draw):
    ood = np.random.default_rng(draw).choice(np.array([0, 1, 255], np.uint8), len(values))
    whole = ScoreHistogram.of(values, ood)
    for expected, runs in zip(whole.counts, runs_of(values, ood), strict=True):
        assert runs.bins.tolist() == np.flatnonzero(expected).tolist()
        assert runs.counts.tolist() == expected[expected > 0].tolist()


def test_runs_refuse_what_the_histogram_refuses():
    one = np.ones(3, np.float16)
    for scores_, ood in (
        (one.astype(float), np.zeros(3, np.uint8)),
        (one, np.full(3, 7, np.uint8)),
        (one * np.float16("nan"), np.zeros(3, np.uint8)),
        (np.array([-np.inf, 0, 0], np.float16), np.ones(3, np.uint8)),
    ):
        with pytest.raises(DataError) as expected:
            ScoreHistogram.of(scores_, ood)
        with pytest.raises(DataError) as error:
            runs_of(scores_, ood)
        assert str(error.value) == str(expected.value)
    assert runs_of(one * np.float16("nan"), np.full(3, 255, np.uint8))[0].bins.size == 0
