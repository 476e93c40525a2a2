"""Arrays that are already there, as named rows with roles."""

import pytest
import torch

from latentood.latents import Latents
from latentood.latents.facts import Origin, SplitFacts
from latentood.latents.splits import SplitsInMemory


def rows(count):
    return Latents(logits=torch.zeros(count, 3))


def test_splits_are_built_from_roles_and_latents():
    train, noise = rows(3), rows(2)
    splits = SplitsInMemory.of(train=("fit", train), noise=("far", noise))
    assert splits.splits == {"train": SplitFacts("fit"), "noise": SplitFacts("far")}
    assert list(splits.latents) == ["train", "noise"]
    assert splits["train"] is train
    assert splits["noise"] is noise


@pytest.mark.parametrize("name", ["cls", "self", "splits", "latents", "header"])
def test_a_split_may_have_any_name(name):
    train = rows(2)
    splits = SplitsInMemory.of(**{name: ("fit", train)})
    assert splits.splits == {name: SplitFacts("fit")}
    assert splits[name] is train


def test_rows_are_named_by_their_numbers():
    splits = SplitsInMemory.of(train=("fit", rows(3)))
    assert splits.ids("train") == ["0", "1", "2"]


def test_nothing_is_known_of_where_arrays_come_from_unless_it_is_given():
    assert SplitsInMemory.of(train=("fit", rows(3))).header == Origin()
    known = Origin({"name": "a"}, {"seed": 0}, {"torch": "1"})
    facts = SplitFacts("fit", {"fingerprint": "ab"}, {"features/a": "mean"})
    splits = SplitsInMemory({"train": rows(3)}, {"train": facts}, known)
    assert splits.header is known
    assert splits.splits["train"] is facts
