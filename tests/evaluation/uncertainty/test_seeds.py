"""Intervals of means over seeds: right in simulations, and unchanged where seeds add nothing."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import t

from latentood.evaluation.uncertainty.clustered_metrics import Difference
from latentood.evaluation.uncertainty.independent import auroc_interval, mean_auroc
from latentood.evaluation.uncertainty.paired import paired_auroc
from latentood.evaluation.uncertainty.seeds import Spread, widened

NORMAL = NormalDist()


def experiment(draw, seeds, *, rows=120, centre=1.2, fit=0.25, masks=0.6):
    """Repeats on the same rows: seeds move OOD scores together (the fit), and each row (masks)."""
    ids, oods = draw.normal(size=rows), draw.normal(size=rows)
    shift = centre + fit * draw.normal(size=seeds)
    noise = masks * draw.normal(size=(2, seeds, rows))
    return ids + noise[0], oods + shift[:, None] + noise[1]


def expected(centre=1.2, fit=0.25, masks=0.6):
    """The mean AUROC over seeds and rows: OOD scores exceed ID scores with this probability."""
    return NORMAL.cdf(centre / np.sqrt(2 + 2 * masks**2 + fit**2))


def mean_of(ids, oods):
    parts = np.array([mean_auroc(one, [other]) for one, other in zip(ids, oods, strict=True)])
    value, low, high = parts.mean(axis=0)
    return widened(Difference(value, low, high, 1.0), Spread.of(parts[:, 0]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_nominal_95_percent_cover_the_mean_over_seeds_and_rows(seeds):
    draw = np.random.default_rng(seeds)
    hits = once = 0
    for _ in range(600):
        ids, oods = experiment(draw, seeds)
        known = mean_of(ids, oods)
        hits += known.low <= expected() <= known.high
        low, high = auroc_interval(ids[0], oods[0])
        once += low <= expected() <= high
    assert 0.93 <= hits / 600 <= 0.99  # standard error 0.9 points
    assert once / 600 < 0.88  # one seed does not know of its fit


@pytest.mark.parametrize("spread", [True, False])
def test_paired_differences_keep_their_level_with_the_spread_and_only_with_it(spread):
    draw, rejected, seeds = np.random.default_rng(0), 0, 3
    for _ in range(400):
        rows = draw.normal(size=(2, 120))
        shifts = 1.2 + 0.25 * draw.normal(size=2 * seeds)
        ids, oods = (one + 0.6 * draw.normal(size=(2 * seeds, 120)) for one in rows)
        paired = paired_auroc(ids, [oods + shifts[:, None]])
        pairs = [(seeds + at, place) for at in range(seeds) for place in range(seeds)]
        ends = np.mean([paired.difference(*pair) for pair in pairs], axis=0)
        parts = [Spread.of(paired.values[:seeds]), Spread.of(paired.values[seeds:])]
        known = widened(Difference(*ends, 1.0), parts[0].joined(parts[1]) if spread else Spread())
        rejected += not known.low <= 0 <= known.high
    assert rejected / 400 <= 0.06 if spread else rejected / 400 > 0.1


def test_the_variance_and_its_freedom_are_rubins_with_the_error_of_a_mean():
    values, within = np.array([0.80, 0.86, 0.83]), 0.0004
    z = NORMAL.inv_cdf(0.975)
    half = z * np.sqrt(within)
    known = widened(
        Difference(values.mean(), values.mean() - half, values.mean() + half, 1.0),
        Spread.of(values),
    )
    between = values.var(ddof=1)
    total = within + between / 3
    freedom = 2 * (1 + within / (between / 3)) ** 2
    assert known.high - known.value == pytest.approx(t.ppf(0.975, freedom) * np.sqrt(total))
    assert known.value - known.low == pytest.approx(known.high - known.value)
    assert known.p == pytest.approx(2 * t.cdf(-known.value / np.sqrt(total), freedom))


def test_each_side_keeps_its_own_width():
    known = widened(Difference(0.99, 0.95, 0.995, 1.0), Spread(1e-5, 2))
    assert known.value - known.low > known.high - known.value > 0.005
    assert known.low < 0.95


@pytest.mark.parametrize("values", [(0.8,), (0.8, 0.8, 0.8)])
def test_without_a_spread_nothing_changes(values):
    known = Difference(0.1, 0.02, 0.2, 0.01)
    assert widened(known, Spread.of(values)) == known


def test_the_p_value_is_below_the_level_where_the_interval_leaves_zero_out():
    spread = Spread.of((0.80, 0.83))
    for value in np.linspace(-0.4, 0.4, 81):
        known = widened(Difference(value, value - 0.03, value + 0.05, 1.0), spread)
        assert (known.p < 0.05) == (not known.low <= 0 <= known.high)


def test_spreads_of_two_means_add_up():
    one, other = Spread.of((0.8, 0.9)), Spread.of((0.7, 0.72, 0.75))
    both = one.joined(other)
    assert both.variance == pytest.approx(one.variance + other.variance)
    assert one.freedom < both.freedom < one.freedom + other.freedom
    assert one.joined(Spread()) == one
    assert Spread().joined(Spread()) == Spread()
