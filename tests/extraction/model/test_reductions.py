"""Every reduction keeps the contract that ships."""

import pytest

from latentood.errors import ModelError, UnknownName
from latentood.extraction.model.reductions import REDUCTIONS
from latentood.testing import ReductionContract


@pytest.mark.parametrize("name", list(REDUCTIONS.built_in), scope="class")
class TestBuiltIn(ReductionContract):
    @pytest.fixture
    def reduction(self, name):
        return REDUCTIONS.build(name)


def test_an_unknown_reduction_names_the_nearest():
    with pytest.raises(UnknownName, match="no reduction named 'maen'; did you mean 'mean'"):
        REDUCTIONS.build("maen")


@pytest.mark.parametrize(
    ("name", "row"), [("tokens-mean", (5,)), ("cls", (5,)), ("cls", (2, 3, 4))]
)
def test_rows_it_does_not_apply_to_are_refused(name, row):
    with pytest.raises(ModelError, match=rf"^reduction {name}: needs .*, got \({row[0]},"):
        REDUCTIONS.build(name).shape(row)
