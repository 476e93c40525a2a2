"""The package holds its plug-ins to the contracts that latentood ships."""

import numpy as np
import pytest
from tiny_plugins.detector import Centroid
from tiny_plugins.reduction import Quantile
from tiny_plugins.score_tap import GradientLength

from latentood.testing import DetectorContract, ReductionContract, ScoreTapContract


def centroid(detector, fit, rows, same):
    """Compute the distance as its definition says, one number after the other."""
    h = fit[detector.key]
    scores = []
    for x in rows[detector.key]:
        total = 0.0
        for d in range(h.shape[1]):
            mean = sum(h[:, d]) / len(h)
            spread = max((sum((h[:, d] - mean) ** 2) / len(h)) ** 0.5, detector.floor)
            total += abs((x[d] - mean) / spread) ** detector.order
        scores.append(total ** (1 / detector.order))
    return np.array(scores)


class TestCentroid(DetectorContract):
    @pytest.fixture
    def detector(self):
        return Centroid(order=1.5, floor=1e-3)

    @pytest.fixture
    def formula(self):
        return centroid


class TestQuantile(ReductionContract):
    @pytest.fixture
    def reduction(self):
        return Quantile(level=0.75)


class TestGradientLength(ScoreTapContract):
    @pytest.fixture
    def tap(self):
        return GradientLength(temperature=2.0)
