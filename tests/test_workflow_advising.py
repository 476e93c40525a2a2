"""``lo.advise``: ID rows alone are opened, whatever else there is."""

import pytest

import latentood as lo
from latentood.detectors.advice import advice as module
from latentood.errors import ConfigError, ForbiddenSplit, LatentOODError, UnknownName
from latentood.latents.facts import SplitFacts
from latentood.latents.splits import SplitsInMemory
from latentood.workflows import advising
from latentood.workflows.advising import FitSplits
from tests.detectors.advice.examples import latents
from tests.evaluation.choice.examples import REPORTED, tunable, watched


@pytest.mark.parametrize("name", [*REPORTED, "odd"])
def test_a_split_that_is_not_fit_or_val_cannot_be_opened(name):
    guarded = FitSplits(tunable())
    for ask in (guarded.__getitem__, guarded.ids):
        with pytest.raises(ForbiddenSplit, match=rf"advise: .*'{name}' of role (id|near|far|tune)"):
            ask(name)


def test_fit_and_val_can_be_opened_and_what_is_not_there_is_named():
    given = tunable()
    guarded = FitSplits(given)
    assert all(guarded[name] is given[name] for name in ("train", "val"))
    with pytest.raises(UnknownName, match="no split named 'vall'"):
        guarded["vall"]


def test_advice_opens_fit_and_val_alone():
    splits = watched()
    lo.advise(splits)
    assert set(splits.opened) == {"train", "val"}


@pytest.mark.parametrize("name", ["id_test", "noise", "odd"])
def test_a_planted_read_is_refused(monkeypatch, name):
    """Code that is given the splits of the advice gets an error for others, not rows."""
    real = advising.Roles.of

    def leaking(splits, **options):
        splits[name]
        return real(splits, **options)

    monkeypatch.setattr(advising.Roles, "of", leaking)
    splits = watched()
    with pytest.raises(ForbiddenSplit, match=repr(name)):
        lo.advise(splits)
    assert splits.opened == []


def test_the_advice_does_not_depend_on_other_rows():
    given = tunable()
    kept = ("train", "val")
    alone = SplitsInMemory(
        {name: given[name] for name in kept}, {name: given.splits[name] for name in kept}
    )
    both = [lo.advise(one).as_json()["places"] for one in (given, alone)]
    assert both[0] == both[1]


def test_without_val_nothing_is_confirmed_and_nothing_to_tune_is_offered():
    with_val, without = lo.advise(watched()), lo.advise(watched(without=("val",)))
    assert with_val.rows["val"] > 0 == without.rows["val"]
    assert {one.val for one in without["penultimate"].measures.values()} == {None}
    assert [line.split()[1] for line in with_val.commands] == ["score", "tune"]
    assert [line.split()[1] for line in without.commands] == ["score"]
    assert "--synthetic" not in with_val.commands[1]
    untuned = lo.advise(watched(without=("odd", "other")))
    assert untuned.commands[1].endswith("--synthetic mixup")


def test_the_detectors_of_the_commands_can_be_scored():
    splits = tunable()
    advice = lo.advise(splits)
    detectors, layers = advice.detectors, list(advice.layers)
    request = advising.registry()
    assert set(detectors) <= set(request)
    words = advice.commands[0].split()
    assert words[words.index("--detectors") + 1] == ",".join(detectors)
    from latentood.evaluation.inputs.request import select

    chosen = select(list(detectors), layers=layers, splits=splits).detectors
    assert {one.name for one in chosen} == set(detectors)


def test_layers_are_chosen_by_globs():
    advice = lo.advise(tunable(), layers="penult*")
    assert [one.name for one in advice.places] == [module.NETWORK, "penultimate"]
    with pytest.raises(UnknownName, match="no cached layer named 'layer9'"):
        lo.advise(tunable(), layers=["layer9"])


def test_a_cache_without_rows_to_fit_on_is_an_error():
    with pytest.raises(ConfigError, match="exactly one split of role fit"):
        lo.advise(watched(without=("train",)))
    only_fit = SplitsInMemory({"a": latents()}, {"a": SplitFacts("fit")})
    assert lo.advise(only_fit)["penultimate"].families
    assert issubclass(ForbiddenSplit, LatentOODError)
