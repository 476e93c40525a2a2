"""Metrics of each class against those of its rows alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentood import metrics
from latentood.errors import DataError

score = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e3, 1e3))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(score, st.sampled_from([0, 3, 7])), min_size=1, max_size=80),
    oods=st.lists(score, min_size=1, max_size=40),
)
def test_a_class_has_the_metrics_of_its_rows(rows, oods):
    ids, labels = map(np.array, zip(*rows, strict=True))
    oods = np.array(oods)
    classes = metrics.by_class(ids, labels, oods)
    assert list(classes) == sorted(set(labels.tolist()))
    catching = max(t for t in oods if 100 * np.sum(oods >= t) >= 95 * oods.size)
    for one, of in classes.items():
        own = ids[labels == one]
        assert of.n == own.size
        assert of.auroc == pytest.approx(metrics.auroc(own, oods), abs=1e-12)
        assert of.fpr95_ood == metrics.fpr95_ood(own, oods) == np.mean(own >= catching)
        assert of.fpr95_id == metrics.fpr95_id(own, oods)
        assert of.flagged == np.mean(own > metrics.id_threshold(ids))
        assert of.few == (own.size < 20)
    weights = [of.n / ids.size for of in classes.values()]
    whole = np.dot(weights, [of.auroc for of in classes.values()])
    assert whole == pytest.approx(metrics.auroc(ids, oods), abs=1e-12)


@pytest.mark.parametrize("count", [19, 20, 40, 60])
def test_a_class_of_20_rows_is_enough_to_leave_one_out(count):
    ids = np.arange(float(count))
    of = metrics.by_class(ids, np.zeros(count), ids)[0]
    assert of.few == (count < 20)
    assert of.fpr95_id == metrics.fpr95_id(ids, ids) == 1 - (count // 20) / count


def test_tensors_and_missing_classes_are_taken():
    ids, labels = torch.arange(40.0), torch.tensor([2] * 30 + [-1] * 10)
    classes = metrics.by_class(ids, labels, torch.tensor([29.5]))
    assert list(classes) == [-1, 2]
    assert (classes[2].n, classes[2].auroc, classes[2].few) == (30, 1.0, False)
    assert (classes[-1].n, classes[-1].auroc, classes[-1].few) == (10, 0.0, True)
    assert classes[-1].flagged == 0.2
    assert classes[2].flagged == 0.0


def test_labels_that_are_not_classes_are_refused():
    with pytest.raises(DataError, match=r"^by_class: labels must be one whole .* 2 ID scores, got"):
        metrics.by_class([0.0, 1.0], [1], [2.0])
    with pytest.raises(DataError, match="give classes, not probabilities"):
        metrics.by_class([0.0, 1.0], [0.5, 0.5], [2.0])
    with pytest.raises(DataError, match=r"^by_class: OOD scores must be finite"):
        metrics.by_class([0.0], [1], [np.inf])
