"""Paired tests of detectors against the best one."""

import numpy as np
import pytest

from latentood.evaluation.comparison import Request, Result, ScoredSplit
from latentood.evaluation.contrast import Measures
from latentood.evaluation.measuring import measure
from latentood.evaluation.standing import with_standings
from latentood.evaluation.truth import Truth
from latentood.evaluation.uncertainty.paired import holm, paired_auroc
from latentood.latents.facts import state_of

SIZES = {"id_test": 300, "close": 200, "noise": 150, "texture": 100}
ROLES = {"id_test": "id", "close": "near", "noise": "far", "texture": "far"}


def splits():
    made = []
    for name, size in SIZES.items():
        ood = np.full(size, state_of(ROLES[name]), dtype=np.uint8)
        labels = np.zeros(size, dtype=np.int64)
        truth = Truth("image", ood, np.arange(size), size)
        made.append(ScoredSplit(name, ROLES[name], [""] * size, labels, labels, truth))
    return tuple(made)


def results(shifts, noise=0.3, seed=0):
    """Detectors that look at the same rows, each with a shift of OOD scores of its own."""
    rng = np.random.default_rng(seed)
    common = {name: rng.normal(size=size) for name, size in SIZES.items()}
    asked, made = Measures(), []
    for number, shift in enumerate(shifts):
        scores = {
            name: rows + noise * rng.normal(size=rows.size) + shift * (name != "id_test")
            for name, rows in common.items()
        }
        made.append(
            measure(
                Request(f"d{number}", "logits", {}), splits(), scores, asked=asked, fit_seconds=0,
                score_seconds=dict.fromkeys(SIZES, 0.0), provenance={},
            )
        )  # fmt: skip
    return with_standings(splits(), made)


def test_the_best_and_its_equals_are_marked_and_a_worse_one_is_not():
    made = results([1.0, 1.0, 0.2])
    assert [result.best for result in made] == [True, True, False]
    p_values = [result.standings["auroc"].p_value for result in made]
    assert p_values.count(None) == 1
    assert p_values[2] < 0.001


def test_intervals_overlap_where_the_paired_test_tells_them_apart():
    good, bad = results([1.0, 0.85], noise=0.02)
    means = good.averages["far"], bad.averages["far"]
    assert means[0].auroc_low < means[1].auroc_high  # each is known no better than this
    assert good.best
    assert not bad.best


def test_the_ranking_weighs_roles_and_not_splits():
    made = results([1.0, 0.8, 0.9])
    sides = [
        np.stack([result.scores[name] for result in made]) for name in ("close", "noise", "texture")
    ]
    ids = np.stack([result.scores["id_test"] for result in made])
    paired = paired_auroc(ids, sides, [1 / 2, 1 / 4, 1 / 4])
    assert [result.mean_auroc for result in made] == pytest.approx(list(paired.values))
    others = holm(paired.p_values[0, 1:])
    assert [result.standings["auroc"].p_value for result in made] == [
        None, *map(pytest.approx, others),
    ]  # fmt: skip


def test_every_average_of_the_tables_has_a_standing():
    first, second = results([1.0, 0.0])
    assert set(first.standings) == {
        "auroc", "auroc.near", "auroc.far", "fpr95_ood", "fpr95_id", "aupr_out",
    }  # fmt: skip
    assert all(one.best and one.p_value is None for one in first.standings.values())
    assert not any(one.best for one in second.standings.values())


def test_low_errors_are_the_best_ones():
    first, second = results([0.0, 3.0])
    assert second.standings["fpr95_ood"].p_value is None
    assert not first.standings["fpr95_ood"].best


def test_splits_with_fewer_samples_are_averaged_with_others(monkeypatch):
    monkeypatch.setattr("latentood.evaluation.contrast._MOST_DRAWN", 450 * 900)
    first, second = results([1.0, 0.0])
    sizes = {name: len(values["fpr95_id"]) for name, values in first.samples.items()}
    assert len(set(sizes.values())) > 1
    assert first.standings["fpr95_id"].best
    assert not second.standings["fpr95_id"].best


def test_a_detector_alone_is_not_tested():
    (alone,) = results([1.0])
    assert isinstance(alone, Result)
    assert alone.standings == {}
