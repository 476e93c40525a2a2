"""Some of the rows of a data set."""

import pickle

import pytest
import torch
from torchvision.datasets import ImageFolder

from latentood.data import Digits, Fields, GaussianNoise, HeldOutClasses, OnlyClasses, Rows
from latentood.errors import ConfigError, DataError
from tests.data.sources import COLOURS, LABELS, Pictures, image_folder


def test_rows_are_those_of_a_slice_with_their_labels():
    rows = Rows(Pictures(), start=1, stop=-1, step=2)
    assert len(rows) == 2
    assert [label for _, label in rows] == [1, 0]
    assert all(torch.equal(image, COLOURS[i]) for (image, _), i in zip(rows, (1, 3), strict=True))
    assert rows.labels == [1, 0]


def test_the_two_sides_of_a_cut_are_the_whole():
    held_back, rest = Rows(Digits([1, 2]), stop=20), Rows(Digits([1, 2]), start=20)
    assert [*held_back.ids, *rest.ids] == Digits([1, 2]).ids


@pytest.mark.parametrize("cut", [(6, None, 1), (3, 3, 1), (0, None, 0), (0, None, -1)])
def test_a_cut_that_leaves_no_row_is_refused(cut):
    with pytest.raises(ConfigError, match=r"Rows: start, .* must leave some of 6 rows, got .*give"):
        Rows(Pictures(), *cut)


def test_classes_are_renumbered_by_their_place():
    only = OnlyClasses(Pictures(), [2, 0])
    assert [label for _, label in only] == [1, 0, 1, 0]
    assert only.labels == [1, 0, 1, 0]
    kept = [COLOURS[i] for i in (0, 2, 3, 5)]
    assert all(torch.equal(image, own) for (image, _), own in zip(only, kept, strict=True))


def test_held_out_classes_have_no_labels():
    held_out = HeldOutClasses(Pictures(), [1])
    assert all(torch.equal(x, COLOURS[i]) for x, i in zip(held_out, (1, 4), strict=True))


def test_the_id_and_the_ood_side_share_no_row_and_together_are_all():
    digits = Digits(range(10), "test")
    known, unknown = OnlyClasses(digits, [0, 1, 2, 4, 6, 7, 9]), HeldOutClasses(digits, [3, 5, 8])
    assert sorted([*known.ids, *unknown.ids]) == digits.ids
    assert set(known.labels) == set(range(7))


def test_classes_may_be_named(tmp_path):
    source = ImageFolder(image_folder(tmp_path / "pets", ("cats", "dogs", "emus")))
    only = OnlyClasses(source, ["emus", "cats"])
    assert [label for _, label in only] == [1, 1, 1, 0, 0, 0]
    assert list(only.ids) == [f"{name}/{i}.png" for name in ("cats", "emus") for i in range(3)]
    assert only.class_to_idx == {"emus": 0, "cats": 1}
    assert OnlyClasses(only, ["cats"]).labels == [0, 0, 0]
    with pytest.raises(ConfigError, match="names of classes, got 'emu'; did you mean 'emus'"):
        OnlyClasses(source, ["emu"])
    with pytest.raises(ConfigError, match=r"Pictures: .* got 'cats'; give labels, e\.g\. \[0, 1\]"):
        OnlyClasses(Pictures(), ["cats"])


@pytest.mark.parametrize("classes", [[], [1, 1]])
def test_no_class_or_the_same_twice_is_refused(classes):
    with pytest.raises(ConfigError, match="HeldOutClasses: classes must be different ones, got"):
        HeldOutClasses(Pictures(), classes)


def test_a_class_without_rows_is_named():
    with pytest.raises(
        ConfigError, match=r"labels of Pictures, 0 to 2, but no row has \[7\]; correct classes"
    ):
        OnlyClasses(Pictures(), [0, 7])


def test_classes_of_a_data_set_without_labels_are_refused():
    with pytest.raises(
        DataError, match=r"Pictures: every item must have a label .* in item 0; use"
    ):
        OnlyClasses(Pictures(labels=None), [0])


def test_listed_labels_spare_reading_the_images():
    long = Pictures(images=COLOURS.repeat(50, 1, 1, 1), labels=LABELS * 50)
    assert len(OnlyClasses(long, [1])) == 100
    assert long.reads <= 9


def test_listed_labels_that_are_not_those_of_the_items_are_not_believed():
    source = Pictures()
    source.targets = [2, 1, 0, 2, 1, 0]
    assert OnlyClasses(source, [1, 2]).labels == [0, 1, 0, 1]


def test_listed_labels_are_not_believed_where_the_items_have_others_by_a_transform():
    source = Pictures(images=COLOURS.repeat(10, 1, 1, 1), labels=[0, 2, *LABELS[2:], *LABELS * 9])
    source.targets = LABELS * 10  # one differs, and none of the few that are compared
    assert len(OnlyClasses(source, [1])) == 20
    source.target_transform = lambda label: label
    assert len(OnlyClasses(source, [1])) == 19


def test_fields_of_unusual_names_become_input_and_label():
    image, label = Fields(Pictures("mapping"), "picture", "kind")[4]
    assert torch.equal(image, COLOURS[4])
    assert label == 1
    assert torch.equal(Fields(Pictures("mapping"), "picture")[4], COLOURS[4])
    assert OnlyClasses(Fields(Pictures("mapping"), "picture", "kind"), [1]).labels == [0, 0]


def test_a_field_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        DataError, match=r"label: must name a field .* 'picture', 'kind', 'where', g"
    ):
        Fields(Pictures("mapping"), "picture", "kinds")[0]
    with pytest.raises(
        DataError, match=r"input: must name .* got none; set input: of the split, or"
    ):
        Rows(Pictures("mapping"))[0]


def test_what_the_model_sees_already_stays_so():
    assert Rows(GaussianNoise(4, (1, 2, 2))).model_space is True
    assert Rows(Pictures()).model_space is False


def test_a_source_that_is_no_data_set_is_refused():
    with pytest.raises(ConfigError, match="Rows: source must be a data set with a length, got int"):
        Rows(3)


def test_rows_past_the_end_end_iteration():
    with pytest.raises(IndexError, match="Rows: no row 6 of 6"):
        Rows(Pictures())[6]
    with pytest.raises(IndexError):
        Rows(Pictures())[-1]


def test_derived_data_sets_travel_to_worker_processes():
    only = pickle.loads(pickle.dumps(OnlyClasses(Rows(Pictures(), 1), [0, 2])))
    assert only.labels == [1, 0, 1]
