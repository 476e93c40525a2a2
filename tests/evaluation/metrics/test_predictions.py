"""Metrics of predictions against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentood import metrics
from latentood.errors import DataError


def test_accuracy_counts_right_predictions():
    assert metrics.accuracy(torch.tensor([1, 2, 3, 0]), [1, 2, 0, 0]) == 0.75


def test_accuracy_refuses_different_lengths():
    with pytest.raises(DataError, match=r"^accuracy: .* got \(2,\) and \(3,\); give one of each"):
        metrics.accuracy([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="n ≥ 1"):
        metrics.accuracy([], [])


def slow_calibration_error(confidences, right, bins):
    error = 0.0
    for number in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[number : number + 2]
        inside = [low < c <= high or (number == 0 and c == 0) for c in confidences]
        if any(inside):
            confidence = np.mean([c for c, one in zip(confidences, inside, strict=True) if one])
            accuracy = np.mean([r for r, one in zip(right, inside, strict=True) if one])
            error += sum(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda k: k / 15)), st.booleans()
        ),
        min_size=1,
        max_size=60,
    ),
    bins=st.sampled_from([1, 4, 15]),
)
def test_the_calibration_error_is_that_of_a_loop_over_bins(rows, bins):
    confidences, right = map(list, zip(*rows, strict=True))
    expected = slow_calibration_error(confidences, right, bins)
    assert metrics.calibration_error(confidences, right, bins) == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_of_a_sure_network_is_its_error_rate():
    assert metrics.calibration_error(torch.ones(4), torch.tensor([1, 1, 1, 0]).bool()) == 0.25
    assert metrics.calibration_error([0.75] * 4, [True, True, True, False]) == 0.0


def test_confidences_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match=r"^calibration_error: .* in \[0, 1\], got 1.5 in row 1; "):
        metrics.calibration_error([0.5, 1.5], [True, True])
    with pytest.raises(DataError, match=r"must be in \[0, 1\], got nan in row 0"):
        metrics.calibration_error([float("nan")], [True])
    with pytest.raises(DataError, match=r"got \(2,\), \(1,\) and 15; give one of each"):
        metrics.calibration_error([0.5, 0.5], [True])
