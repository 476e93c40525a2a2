import numpy as np
import pytest

from latentood.errors import ConfigError
from latentood.training.objectives import END, Moment
from latentood.training.objectives.annealing import check_points, interpolate, rise

POINTS = ((0.0, 0.0), (0.2, 0.01), (1.0, 1.0))


def at(share: float) -> Moment:
    return Moment(epoch=0.0, share=share)


def test_a_rise_takes_as_many_epochs_as_it_says():
    assert [rise(Moment(t, 0.0), 10) for t in (0.0, 2.5, 10.0, 11.0)] == [0.0, 0.25, 1.0, 1.0]
    assert rise(Moment(0.0, 0.0), 0) == 1.0
    assert rise(END, 10) == 1.0


@pytest.mark.parametrize("points", [POINTS, ((0.3, 2.0), (0.5, 0.0)), ((0.4, 0.7),)])
def test_values_between_points_are_those_of_numpy(points):
    shares, values = zip(*points, strict=True)
    for share in np.linspace(0, 1, 41):
        expected = np.interp(share, shares, values)
        assert interpolate(at(float(share)), points) == pytest.approx(float(expected))


def test_points_that_are_no_schedule_are_refused():
    for bad in ([(0, 0), (0, 1)], [(0.5, 0), (0.2, 1)], [(0, 0), (10, 1)], [(-0.1, 0)], [(0, -1)]):
        with pytest.raises(ConfigError, match=r"x: annealing must be pairs .* got \[\["):
            check_points("x", "annealing", bad)
    check_points("x", "annealing", ())
