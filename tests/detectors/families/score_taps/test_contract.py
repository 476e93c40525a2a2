"""Every score tap keeps the contract that ships."""

import pytest

from latentood.detectors.families.score_taps.base import SCORE_TAPS
from latentood.testing import ScoreTapContract


@pytest.mark.parametrize("name", list(SCORE_TAPS.built_in), scope="class")
class TestBuiltIn(ScoreTapContract):
    @pytest.fixture
    def tap(self, name):
        return SCORE_TAPS.build(name)
