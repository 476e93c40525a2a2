"""Every detector of the registry keeps the contract."""

import pytest

import tests.references  # noqa: F401  (registers the slow formulas)
from latentood.detectors.registry import BUILT_IN, detector, registry
from latentood.errors import DetectorError
from latentood.testing.detectors import DetectorContract, blobs  # noqa: F401  (a fixture)
from tests.references.registry import REFERENCES

REFUSED = {
    "openmax": {"one row"},
    "mahalanobis": {"one row"},
    "rmd": {"one row"},
    "ssd": {"one row"},
    "mahalanobis_layers": {"one row"},
    "ddu": {"one row"},
    "gmm": {"one row"},
    "vim": {"one row"},
    "residual": {"one row"},
    "pca_reconstruction": {"one row"},
    "neco": {"one row"},
    "knn": {"few rows", "one row"},
    "nnguide": {"one class", "few rows", "one row"},
    "cfood": {"one row"},
    "wdiscood": {"one class", "one row"},
    "kde": {"one row"},
    "lof": {"few rows", "one row"},
    "isolation_forest": {"one row"},
    "one_class_svm": {"one row"},
    "lared": {"one row"},
    "larem": {"one row"},
    "larem_classwise": {"one row"},
    "lar_knn": {"few rows", "one row"},
    "lar_gmm": {"one row"},
    "fusion_mean": {"few rows", "one row"},
    "fusion_max": {"few rows", "one row"},
    "fusion_fisher": {"few rows", "one row"},
    "fusion_brown": {"few rows", "one row"},
}
"""Fit rows a detector cannot work with, by its mathematics."""

OTHERWISE = {
    "isolation_forest": "the far blobs differ in one dimension of many, which few splits look at",
    "variation_ratio": "most rows tie at 0, as the votes of all passes agree",
    "disagreement": "most rows tie at 0, as the votes of all passes agree",
    "openmax": "a tail of 20 is a third of the 60 rows a class of the blobs has",
    "ash_b": "it evens out 6 of the blobs' 16 units, most of which are noise",
    "dissonance": "it measures conflict, and the far blobs have no evidence to be in conflict",
    "feature_norm": "the far blobs are nearly as long as the ID ones",
    "gradnorm": "the far blobs are nearly as long as the ID ones",
    "nac": "most units of the blobs have no say in the head, so their states tell nothing",
}
"""Detectors the far blobs are not made for, and why; their own tests bring rows that are."""

RECTIFIED = {"ash_b", "ash_s", "scale"}
"""Detectors that refuse negative activations."""


@pytest.mark.parametrize("name", [cls.name for cls in BUILT_IN], scope="class")
class TestBuiltIn(DetectorContract):
    @pytest.fixture
    def blobs(self, name, blobs):  # noqa: F811  (the same blobs, as this detector takes them)
        return blobs.rectified() if name in RECTIFIED else blobs

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
