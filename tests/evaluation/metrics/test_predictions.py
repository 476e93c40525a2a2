"""Metrics of predictions against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from latentood import metrics
from latentood.errors import DataError, UnknownName


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


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_brier_and_nll_equal_scikit_learn(classes):
    draw = np.random.default_rng(classes)
    logits = 3 * draw.standard_normal((200, classes))
    labels, p = draw.integers(0, classes, 200), softmax(logits, axis=1)
    every = np.arange(classes)
    squared = brier_score_loss(labels, p, labels=every, scale_by_half=False)
    likelihood = log_loss(labels, p, labels=every)
    for outputs, kind in ((logits, "logits"), (p, "probabilities"), (np.log(p), "logits")):
        assert metrics.brier(outputs, labels, kind=kind) == pytest.approx(squared, abs=1e-12)
        assert metrics.nll(outputs, labels, kind=kind) == pytest.approx(likelihood, abs=1e-12)


def test_equal_probabilities_have_the_values_of_chance():
    logits, labels = np.full((6, 3), 2.0), [0, 1, 2, 0, 1, 2]
    assert metrics.brier(logits, labels) == pytest.approx(2 / 3)
    assert metrics.nll(logits, labels) == pytest.approx(np.log(3))


def test_nothing_is_clipped():
    assert metrics.nll([[0.0, 2000.0]], [0]) == 2000.0
    assert metrics.nll([[0.0, 1.0]], [0], kind="probabilities") == np.inf
    assert metrics.nll([[0.0, 1.0]], [1], kind="probabilities") == 0.0
    assert metrics.brier([[0.0, 1.0]], [0], kind="probabilities") == 2.0


def test_the_outputs_that_were_given_are_not_changed():
    for kind in ("logits", "probabilities"):
        outputs = np.array([[0.25, 0.75]])
        metrics.brier(outputs, [1], kind=kind)
        assert outputs.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_quality_is_all_metrics_of_the_predictions(dtype):
    draw = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(300, 5, generator=draw)).to(dtype)
    labels = torch.randint(0, 5, (300,), generator=draw)
    p = torch.softmax(logits.double(), dim=1)
    right = p.argmax(dim=1) == labels
    quality = metrics.quality_of(logits, labels)
    assert quality.n == 300
    assert quality.accuracy == pytest.approx(right.double().mean().item())
    expected = metrics.calibration_error(p.amax(dim=1), right)
    assert quality.ece == pytest.approx(expected, abs=1e-12)
    assert quality.brier == pytest.approx(metrics.brier(p, labels, kind="probabilities"), abs=1e-12)
    assert quality.nll == pytest.approx(metrics.nll(p, labels, kind="probabilities"), abs=1e-12)


@pytest.mark.parametrize(
    ("outputs", "labels", "kind", "message"),
    [
        ([0.5, 0.5], [0, 1], "logits", r"^nll: logits must be \(n, C\) .* got \(2,\) and \(2,\); "),
        ([[0.5, 0.5]], [0, 1], "logits", r"got \(1, 2\) and \(2,\); give one of each per row"),
        ([[0, 1], [0, float("inf")]], [0, 1], "logits", r"must be finite, got inf in row 1; "),
        ([[0, 1]], [2], "logits", r"^nll: labels must be classes from 0 to 1, got 2 in row 0; "),
        ([[0, 1], [0, 1]], [1, -1], "logits", r"from 0 to 1, got -1 in row 1; "),
        ([[0, 1]], [0.5], "logits", r"from 0 to 1, got 0.5 in row 0; "),
        ([[-1, 2]], [0], "probabilities", r"must be in \[0, 1\], got -1 in row 0; "),
        ([[0.5, 0.1]], [0], "probabilities", r"must sum up to 1, got 0.6 in row 0; "),
    ],
)
def test_outputs_and_labels_that_do_not_fit_are_refused(outputs, labels, kind, message):
    with pytest.raises(DataError, match=message):
        metrics.nll(outputs, labels, kind=kind)
    with pytest.raises(DataError, match=r"^brier: "):
        metrics.brier(outputs, labels, kind=kind)


def test_another_kind_of_outputs_is_refused():
    with pytest.raises(UnknownName, match=r"kind of nll .*probs"):
        metrics.nll([[0.5, 0.5]], [0], kind="probs")
