"""Metrics of counts against those of the scores that they count, case by case."""

import numpy as np
import pytest

from latentood import metrics
from latentood.evaluation.metrics import counts

SCORES = np.array([-3.0, -1.0, 0.5, 0.75, 4.0, 9.0])


def tables(seed):
    draw = np.random.default_rng(seed)
    ids, oods = draw.poisson(0.8, (2, len(SCORES), 4, 3))
    ids[2, 0, 0] += 1  # each case has members of both classes
    ids[1] += ids.sum(axis=0) == 0
    oods[3] += oods.sum(axis=0) == 0
    return ids, oods


def cases(one, other):
    for place in np.ndindex(one.shape[1:]):
        yield place, *(np.repeat(SCORES, side[(slice(None), *place)]) for side in (one, other))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [*counts.METRICS, "detection_error"])
def test_metrics_of_many_cases_are_those_of_each(name, seed):
    ids, oods = tables(seed)
    values = getattr(counts, name)(ids, oods)
    assert values.shape == (4, 3)
    for place, one, other in cases(ids, oods):
        expected = getattr(metrics, name)(one, other)
        assert values[place] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.01, 0.5, 0.9])
def test_aupr_at_a_share_of_many_cases_is_that_of_each(prevalence):
    ids, oods = tables(6)
    values = counts.aupr_out_at(ids, oods, prevalence)
    for place, one, other in cases(ids, oods):
        expected = metrics.aupr_out_at(one, other, prevalence)
        assert values[place] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_autc_scales_each_case_by_the_scores_that_it_has(offset):
    ids, oods = tables(7)
    ids[:, 1, 1], oods[:, 1, 1] = 0, 0
    ids[2, 1, 1] = oods[2, 1, 1] = 3  # all scores equal
    values = counts.autc(ids, oods, SCORES + offset)
    for place, one, other in cases(ids, oods):
        assert values[place] == pytest.approx(metrics.autc(one, other), abs=1e-9)
    assert values[1, 1] == 0.5


@pytest.mark.parametrize("name", ["aurc", "excess_aurc", "augrc"])
def test_selective_metrics_of_many_cases_are_those_of_each(name):
    rights, wrongs = tables(8)
    wrongs[:, 0, 1] = 0
    rights[:, 2, 2] = 0
    values = getattr(counts, name)(rights, wrongs)
    for place, one, other in cases(rights, wrongs):
        right = np.repeat([True, False], [one.size, other.size])
        expected = getattr(metrics, name)(np.concatenate([one, other]), right)
        assert values[place] == pytest.approx(expected, abs=1e-12)
    assert values[0, 1] == 0.0


def test_a_case_without_members_of_a_class_is_not_a_number():
    ids, oods = tables(9)
    ids[:, 0, 0] = 0
    oods[:, 1, 0] = 0
    missing = [
        counts.detection_error(ids, oods),
        counts.aupr_out_at(ids, oods),
        counts.autc(ids, oods, SCORES),
    ]
    for values in missing:
        assert np.isnan(values[:2, 0]).all()
        assert np.isfinite(values[2:]).all()
    oods[:, 0, 0] = 0
    for of in (counts.aurc, counts.excess_aurc, counts.augrc):
        assert np.isnan(of(ids, oods)[0, 0])
        assert np.isfinite(of(ids, oods)[1:]).all()


def test_a_table_counts_each_side_at_the_distinct_scores_of_all():
    scores, (one, other, none) = counts.table(
        np.array([2.0, 0.0, 2.0]), np.array([1.0, -0.0]), np.empty(0)
    )
    assert scores.tolist() == [0.0, 1.0, 2.0]
    assert one.tolist() == [1, 0, 2]
    assert other.tolist() == [1, 1, 0]
    assert none.tolist() == [0, 0, 0]
