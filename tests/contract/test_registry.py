"""Every detector of the registry keeps the contract."""

import pytest

import tests.references  # noqa: F401  (registers the slow formulas)
from latentood.detectors.registry import BUILT_IN, detector, registry
from latentood.errors import DetectorError
from tests.contract.contract import DetectorContract, blobs  # noqa: F401  (a fixture)
from tests.reference import REFERENCES

REFUSED = {
    "mahalanobis": {"one row"},
    "rmd": {"one row"},
    "vim": {"one row"},
    "knn": {"few rows", "one row"},
    "nnguide": {"one class", "few rows", "one row"},
    "cfood": {"one row"},
    "wdiscood": {"one class", "one row"},
    "lared": {"one row"},
    "larem": {"one row"},
}
"""Fit rows a detector cannot work with, by its mathematics."""

OTHERWISE = {
    "dissonance": "it measures conflict, and the far blobs have no evidence to be in conflict",
    "feature_norm": "the far blobs are as long as the ID ones",
}
"""Detectors the far blobs are not made for, and why; their own tests bring rows that are."""


@pytest.mark.parametrize("name", [cls.name for cls in BUILT_IN], scope="class")
class TestBuiltIn(DetectorContract):
    @pytest.fixture
    def detector(self, name):
        self.refused = dict.fromkeys(REFUSED.get(name, ()), DetectorError)
        self.otherwise = OTHERWISE.get(name, "")
        return detector(name)

    @pytest.fixture
    def formula(self, name):
        return REFERENCES[name]


def test_every_built_in_detector_has_a_slow_formula_and_none_is_left_over():
    assert set(REFERENCES) == set(registry()) == {cls.name for cls in BUILT_IN}
