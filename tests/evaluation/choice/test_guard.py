"""No row that is reported can be read by a choice, whatever asks for it."""

import pytest

from latentood.errors import ForbiddenSplit, LatentOODError, UnknownName
from latentood.evaluation.choice import choosing, tuning_sets
from latentood.evaluation.choice.choosing import choose
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.scoring import score_all
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.choice.examples import REPORTED, tunable, watched
from tests.evaluation.examples import Distance

WISH = Wish(detectors=("knn",), settings=("knn.k=1,5",))


@pytest.mark.parametrize("name", REPORTED)
def test_a_split_that_is_reported_cannot_be_opened(name):
    guarded = ChoiceSplits(tunable())
    for ask in (guarded.__getitem__, guarded.ids):
        with pytest.raises(ForbiddenSplit, match=rf"'{name}' of role (id|near|far) was asked for"):
            ask(name)
    assert issubclass(ForbiddenSplit, PermissionError)
    assert issubclass(ForbiddenSplit, LatentOODError)


def test_what_a_choice_may_read_can_be_opened_and_what_is_not_there_is_named():
    given = tunable()
    guarded = ChoiceSplits(given)
    assert all(guarded[name] is given[name] for name in ("train", "val", "odd"))
    assert guarded.header is given.header
    with pytest.raises(UnknownName, match="no split named 'vall'"):
        guarded["vall"]


def test_a_whole_search_opens_no_split_that_is_reported():
    splits = watched()
    choose(splits, WISH)
    assert set(splits.opened) == {"train", "val", "odd", "other"}


@pytest.mark.parametrize("name", ["id_test", "close", "noise"])
def test_a_planted_read_within_the_search_is_refused(monkeypatch, name):
    """Whatever code of the search asks its splits for test rows gets an error, not rows."""
    real = tuning_sets._described

    def leaking(splits):
        return lambda wish: (splits[name], *real(wish))

    def scenarios(splits, wish, budget):
        monkeypatch.setattr(tuning_sets, "_described", leaking(splits))
        return tuning_sets.scenarios(splits, wish, budget)

    monkeypatch.setattr(choosing, "scenarios", scenarios)
    splits = watched()
    with pytest.raises(ForbiddenSplit, match=repr(name)):
        choose(splits, WISH)
    assert name not in splits.opened


def test_the_choice_does_not_depend_on_rows_that_are_reported():
    given = tunable()
    ruined = {name: given["odd"] if name in REPORTED else given[name] for name in given.splits}
    assert choose(given, WISH) == choose(SplitsInMemory(ruined, given.splits, given.header), WISH)


def test_score_does_not_open_a_split_of_role_tune():
    splits = watched()
    comparison = score_all(splits, [Distance()])
    assert not {"odd", "other"} & set(splits.opened)
    assert not {"odd", "other"} & comparison.provenance["splits"].keys()
    assert [split.name for split in comparison.splits] == list(REPORTED)
