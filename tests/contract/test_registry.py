"""Every detector of the registry keeps the contract."""

import pytest

from latentood.detectors.registry import BUILT_IN, detector, registry
from latentood.errors import DetectorError
from tests.contract.contract import DetectorContract, blobs  # noqa: F401  (a fixture)
from tests.reference import REFERENCES

REFUSED = {
    "mahalanobis": {"one row"},
    "rmd": {"one row"},
    "vim": {"one row"},
    "knn": {"few rows", "one row"},
    "lared": {"one row"},
    "larem": {"one row"},
}
"""Fit rows a detector cannot work with, by its mathematics."""


@pytest.mark.parametrize("name", [cls.name for cls in BUILT_IN], scope="class")
class TestBuiltIn(DetectorContract):
    @pytest.fixture
    def detector(self, name):
        self.refused = dict.fromkeys(REFUSED.get(name, ()), DetectorError)
        return detector(name)

    @pytest.fixture
    def formula(self, name):
        return REFERENCES[name]


def test_every_built_in_detector_has_a_slow_formula_and_none_is_left_over():
    assert set(REFERENCES) == set(registry()) == {cls.name for cls in BUILT_IN}
