"""Searches try the default first, nothing twice, and what the seed says."""

import math

import numpy as np
import pytest

from latentood.detectors.registry import detector
from latentood.errors import ConfigError
from latentood.evaluation.choice import search
from latentood.evaluation.choice.choosing import choose
from latentood.evaluation.choice.search import run
from latentood.evaluation.choice.space import Candidate, Range, Space
from latentood.evaluation.choice.wish import Wish
from tests.evaluation.choice.examples import tunable

DEFAULT = Candidate(detector("knn"))


def tried(space, **wish):
    """Search a space whose best k is 37, and give what was tried, round by round."""
    rounds = []

    def evaluate(candidates):
        rounds.append([one.detector.k for one in candidates])
        return {one: -abs(math.log(one.detector.k / 37)) for one in candidates}

    run([space], Wish(**wish), evaluate)
    return rounds


def test_a_grid_tries_every_point_once_with_the_default_first():
    space = Space(DEFAULT, {"k": [10, 50, 20, 10]})
    assert tried(space) == [[50, 10, 20]]


def test_a_grid_cannot_list_a_range():
    with pytest.raises(ConfigError, match=r"--set knn.k: .* got the range 5..500; add --search"):
        tried(Space(DEFAULT, {"k": Range(5, 500)}))


def test_random_search_draws_each_point_once_until_there_are_no_more():
    space = Space(DEFAULT, {"k": [10, 20, 30]})
    (first,) = tried(space, search="random", trials=3)
    assert first[0] == 50
    assert len(set(first)) == 3
    (whole,) = tried(space, search="random", trials=20)
    assert sorted(whole) == [10, 20, 30, 50]


def test_random_search_is_decided_by_the_seed():
    space = Space(DEFAULT, {"k": Range(1, 5000)})
    runs = [tried(space, search="random", trials=10, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert all(1 <= k <= 5000 for one in runs for k in one[0])


@pytest.mark.parametrize(
    ("given", "logarithmic"),
    [(Range(1, 9), False), (Range(1, 10), True), (Range(0, 100), False), (Range(0.1, 1.0), True)],
)
def test_a_range_is_drawn_from_evenly_to_its_ends(given, logarithmic):
    values = np.array([given.at(share) for share in np.linspace(0, 1, 20_001)[:-1]])
    assert given.logarithmic == logarithmic
    assert values.min() == given.low
    assert values.max() == pytest.approx(given.high, rel=1e-3)
    if given.whole:
        assert values.dtype.kind == "i"
        assert set(values) == set(range(given.low, given.high + 1))
        if not logarithmic:
            assert np.unique(values, return_counts=True)[1] == pytest.approx(
                20_000 / len(set(values)), rel=0.01
            )


def test_ranges_are_read_from_settings():
    wish = Wish(detectors=("knn",), settings=("knn.k=2..40",), search="random", trials=6)
    document = choose(tunable(), wish)
    ks = [one["settings"]["k"] for one in document["trials"]]
    assert ks[0] == 50
    assert len(set(ks)) == 6
    assert all(2 <= k <= 40 for k in ks[1:])
    for text, message in (("knn.k=40..2", "LOW < HIGH"), ("knn.k=0..2", "k must be ≥ 1")):
        with pytest.raises(ValueError, match=message):
            choose(tunable(), Wish(detectors=("knn",), settings=(text,), search="random"))


def test_optuna_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r'pip install "latentood\[optuna\]"'):
        tried(Space(DEFAULT, {"k": [1, 2]}), search="optuna")


def test_optuna_is_told_what_came_of_its_points_and_comes_near_the_best():
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    space = Space(DEFAULT, {"k": Range(1, 5000), "normalise": [True, False]})
    rounds = tried(space, search="optuna", trials=60)
    assert rounds[0][0] == 50
    assert sum(map(len, rounds)) <= 60
    assert all(len(one) <= search.BATCH + 1 for one in rounds)
    late = [k for one in rounds[-3:] for k in one]
    early = rounds[0][1:]
    off = [np.median(np.abs(np.log(np.array(ks) / 37))) for ks in (early, late)]
    assert off[1] < off[0] / 2, "later points are nearer to the best"
    assert rounds == tried(space, search="optuna", trials=60)


def test_optuna_survives_points_that_fail():
    pytest.importorskip("optuna", reason="the extra [optuna] is not installed")
    wish = Wish(detectors=("knn",), settings=("knn.k=10,100,110,115",), search="optuna", trials=12)
    document = choose(tunable(sizes=(105, 60, 90, 70, 50)), wish)
    failed = {one["settings"]["k"] for one in document["trials"] if one["reason"]}
    assert failed <= {110, 115}
    assert document["detectors"]["knn"]["chosen"]["settings"]["k"] in (10, 50, 100)
