"""Every detector of the registry keeps the contract that ships."""

import pytest

import tests.references  # noqa: F401  (registers the slow formulas)
from latentood.detectors.families.score_taps.base import SCORE_TAPS
from latentood.detectors.registry import DETECTORS, registry
from latentood.testing import DetectorContract
from tests.references.registry import REFERENCES

OTHERWISE = {
    "isolation_forest": "the far blobs differ in one dimension of many, which few splits look at",
    "variation_ratio": "most rows tie at 0, as the votes of all passes agree",
    "disagreement": "most rows tie at 0, as the votes of all passes agree",
    "openmax": "a tail of 20 is a third of the 60 rows a class of the blobs has",
    "ash_b": "it evens out 6 of the blobs' 16 units, most of which are noise",
    "dissonance": "it measures conflict, and the far blobs have no evidence to be in conflict",
    "feature_norm": "the far blobs are nearly as long as the ID ones",
    "gradnorm": "the far blobs are nearly as long as the ID ones",
    "weiper": "the blobs have 16 units, and a histogram of a row as many values",
    "nac": "most units of the blobs have no say in the head, so their states tell nothing",
}
"""Detectors the far blobs are not made for, and why; their own tests bring rows that are."""

COLUMNS = set(SCORE_TAPS.built_in)
"""Detectors that read the column of a score tap: the taps have the formulas."""


@pytest.mark.parametrize("name", list(DETECTORS.built_in), scope="class")
class TestBuiltIn(DetectorContract):
    @pytest.fixture
    def detector(self, name, texts):
        self.otherwise = OTHERWISE.get(name, "")
        return DETECTORS.build(name, **({"texts": texts} if name == "neglabel" else {}))

    @pytest.fixture
    def formula(self, name):
        return REFERENCES.get(name)


def test_every_built_in_detector_has_a_slow_formula_and_none_is_left_over():
    assert set(REFERENCES) | COLUMNS == set(registry()) == set(DETECTORS.built_in)
    assert not set(REFERENCES) & COLUMNS
