"""What is known of right and of wrong predictions."""

import math

import pytest
import torch
from torch import nn

from latentood.training.measures import ClassMeasure
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 1])  # the third is wrong


def measured(name="cross_entropy", logits=LOGITS, labels=LABELS, batch=3):
    network = Network(nn.Identity(), OBJECTIVES.build(name), classes=2).eval()
    measure = ClassMeasure()
    for first in range(0, len(labels), batch):
        rows = slice(first, first + batch)
        measure.add(network, logits[rows], labels[rows])
    return measure


def test_values_are_those_of_every_row():
    values = measured().values()
    highest = [1 / (1 + math.exp(-gap)) for gap in (2.0, 3.0, 1.0, 0.5)]
    right = [highest[0], highest[1], highest[3]]
    wanted = {
        "nll": -(sum(map(math.log, right)) + math.log(1 - highest[2])) / 4,
        "accuracy": 0.75,
        "probability_right": sum(right) / 3,
        "probability_wrong": highest[2],
        "uncertainty_right": 1 - sum(right) / 3,
        "uncertainty_wrong": 1 - highest[2],
    }
    assert values == pytest.approx(wanted, rel=1e-5)


def test_the_uncertainty_is_that_of_the_head():
    values = measured("evidential").values()
    network = Network(nn.Identity(), OBJECTIVES.build("evidential"), classes=2)
    own = network.head.uncertainty(network.eval()(LOGITS))
    assert values["uncertainty_wrong"] == pytest.approx(float(own[2]))
    assert values["uncertainty_right"] == pytest.approx(float(own[[0, 1, 3]].mean()))
    assert values["uncertainty_wrong"] != pytest.approx(1 - values["probability_wrong"], abs=0.05)


def test_histograms_count_every_row_in_its_bin():
    statistics = measured().statistics()
    assert statistics["rows"] == {"right": 3, "wrong": 1}
    for name, value in {"uncertainty": 1 - 0.7310586, "probability": 0.7310586}.items():
        one = statistics[name]
        assert sum(one["right"]) == 3
        place = one["wrong"].index(1)
        assert one["edges"][place] <= value <= one["edges"][place + 1]
        assert len(one["edges"]) == len(one["right"]) + 1 == len(one["wrong"]) + 1
    assert [statistics["probability"]["edges"][place] for place in (0, -1)] == [0, 1]


def test_without_wrong_predictions_their_means_are_left_out():
    measure = measured(labels=torch.tensor([0, 1, 0, 1]))
    assert set(measure.values()) == {"nll", "accuracy", "uncertainty_right", "probability_right"}
    assert sum(measure.statistics()["uncertainty"]["wrong"]) == 0


def test_an_uncertainty_that_is_not_finite_is_in_no_bin():
    class Infinite(ClassMeasure):
        def _rows(self):
            rows = super()._rows()
            rows["uncertainty"][0] = math.inf
            return rows

    network = Network(nn.Identity(), OBJECTIVES.build("cross_entropy"), classes=2)
    measure = Infinite()
    measure.add(network, LOGITS, LABELS)
    statistics = measure.statistics()
    assert sum(statistics["uncertainty"]["right"]) == 2
    assert statistics["rows"]["right"] == 3
