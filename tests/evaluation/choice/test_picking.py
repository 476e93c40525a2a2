"""The optimism of a choice, and the gain of one setting over another, against slow formulas."""

import numpy as np
import pytest

from latentood.detectors.registry import detector
from latentood.evaluation import metrics
from latentood.evaluation.choice.choosing import choose
from latentood.evaluation.choice.gain import gain
from latentood.evaluation.choice.picking import _halved, optimism_of
from latentood.evaluation.choice.space import Candidate
from latentood.evaluation.choice.trials import Rows, Sides, Trial
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.uncertainty.paired import paired_auroc
from tests.evaluation.choice.examples import tunable


def rows(count, images=None):
    image = np.arange(count) if images is None else np.sort(np.arange(count) % images)
    return Rows(np.ones(count, dtype=bool), image, count if images is None else images)


def noise_trials(count, sets, *, seed, n=60, m=50):
    """Trials whose scores are pure noise: none is better than another."""
    generator = np.random.default_rng(seed)
    trials = []
    for k in range(1, count + 1):
        scores = {
            name: (generator.standard_normal(n), generator.standard_normal(m)) for name in sets
        }
        values = {name: metrics.auroc(*pair) for name, pair in scores.items()}
        trials.append(Trial(Candidate(detector("knn", k=k)), scores, values))
    return trials


def test_each_set_is_left_out_in_turn():
    names = ["a", "b", "c"]
    trials = noise_trials(7, names, seed=0)
    table = np.array([[one.values[name] for name in names] for one in trials])
    expected = []
    for left in range(3):
        others = [column for column in range(3) if column != left]
        best = max(range(7), key=lambda one: table[one, others].mean())
        expected.append(table[best, left])
    result = optimism_of(trials, {}, Wish())
    assert result.cross_fitted == pytest.approx(np.mean(expected), abs=1e-15)
    assert result.apparent == table.mean(axis=1).max()
    assert result.as_json()["optimism"] == result.apparent - result.cross_fitted


def test_low_is_good_for_an_error_rate():
    trials = noise_trials(7, ["a", "b"], seed=0)
    result = optimism_of(trials, {}, Wish(criterion="fpr95_id"))
    assert result.apparent == min(one.value for one in trials)


def test_with_one_set_its_rows_are_halved():
    trials = noise_trials(5, ["a"], seed=3)
    sides = {"a": Sides(rows(60), rows(50), 0)}
    wish = Wish(seed=4)
    ids, oods = (_halved(rows(n), f"a:{side}", 4) for n, side in ((60, "ID"), (50, "OOD")))
    assert sorted(np.bincount(ids)) == [30, 30]

    def value(one, half):
        known, unknown = one.scores["a"]
        return metrics.auroc(known[ids == half], unknown[oods == half])

    expected = np.mean(
        [value(max(trials, key=lambda one: value(one, half)), 1 - half) for half in (0, 1)]
    )
    assert optimism_of(trials, sides, wish).cross_fitted == pytest.approx(expected, abs=1e-15)
    assert optimism_of(trials, sides, Wish(seed=5)).cross_fitted != pytest.approx(expected)


@pytest.mark.parametrize("sets", [["a"], ["a", "b", "c"]])
def test_of_many_settings_that_are_noise_the_best_looks_good_and_cross_fitting_says_so(sets):
    apparent, cross = [], []
    for seed in range(30):
        sides = {name: Sides(rows(60), rows(50), 0) for name in sets}
        result = optimism_of(noise_trials(20, sets, seed=seed), sides, Wish())
        apparent.append(result.apparent)
        cross.append(result.cross_fitted)
    assert np.mean(apparent) > 0.54, "each alone is 0.5"
    assert np.mean(cross) == pytest.approx(0.5, abs=4 * np.std(cross) / np.sqrt(30))


def test_all_rows_of_an_image_are_in_one_half():
    half = _halved(rows(90, images=12), "a", 0)
    image = rows(90, images=12).image
    assert all(len(set(half[image == one])) == 1 for one in range(12))
    assert 0 < half.mean() < 1


def test_nested_is_told_for_each_detector_and_for_the_best_of_all():
    wish = Wish(detectors=("knn", "gen"), settings=("knn.k=1,5",), nested=True)
    document = choose(tunable(), wish)
    assert document["nested"]["folds"] == "each tuning set in turn"
    assert set(document["detectors"]["knn"]["nested"]) == {
        "apparent", "cross_fitted", "folds", "optimism",
    }  # fmt: skip
    one = choose(tunable(sets=(("odd", 1.0),)), wish)
    assert one["nested"]["folds"] == "each half of the rows in turn"


def two_settings(sets, *, n=40, m=30, shared=True):
    """Scores of two settings for the same rows, with ties."""
    generator = np.random.default_rng(0)
    base = generator.standard_normal(n).round(1)
    old, new = {}, {}
    for name in sets:
        ids = base if shared else generator.standard_normal(n).round(1)
        oods = generator.standard_normal(m).round(1) + 1
        old[name] = ids, oods
        new[name] = ids + 0.1, oods + generator.standard_normal(m).round(1)
    return old, new


@pytest.mark.parametrize("sets", [("a",), ("a", "b")])
def test_a_gain_is_the_paired_difference_of_the_mean_auroc(sets):
    old, new = two_settings(sets)
    result = gain(old, new, "auroc")
    pair = paired_auroc(
        [new["a"][0], old["a"][0]], [np.stack([new[name][1], old[name][1]]) for name in sets]
    )
    expected = pair.difference(0, 1)
    assert (result.value, result.low, result.high) == pytest.approx(expected, rel=1e-12)
    assert result.p_value == pytest.approx(pair.p_values[0, 1], rel=1e-9)


def test_sets_with_id_rows_of_their_own_add_up():
    old, new = two_settings(("a", "b"), shared=False)
    apart = gain(old, new, "auroc", ids={"a": 0, "b": 1})
    each = [gain({name: old[name]}, {name: new[name]}, "auroc") for name in old]
    assert apart.value == pytest.approx(np.mean([one.value for one in each]))
    halves = [one.high - one.value for one in each]
    assert apart.high - apart.value == pytest.approx(np.hypot(*halves) / 2, rel=0.02)
    assert apart.high - apart.value < max(halves) / 1.2


def test_there_is_no_interval_where_none_would_hold():
    generator = np.random.default_rng(0)
    old, new = ({"a": (generator.random(20), generator.random(20))} for _ in range(2))
    assert gain(old, new, "auroc", independent=False).low is None
    assert gain(old, new, "fpr95_id").low is None
    assert gain(old, new, "auroc").low is not None
    lonely = {"a": (np.arange(5.0), np.ones(1))}
    assert gain(lonely, lonely, "auroc").low is None
    perfect = {"a": (np.arange(5.0), np.arange(5.0) + 9)}
    assert gain(perfect, perfect, "auroc").high > 0, "no difference in 5 rows does not prove it"
    assert not Sides(rows(20, images=5), rows(20), 0).independent
    assert Sides(rows(20), rows(20), 0).independent
