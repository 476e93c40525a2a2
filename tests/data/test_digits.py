"""The digits and their split."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from latentood.data import Digits
from latentood.errors import ConfigError, UnknownName

EVERY = list(range(10))


def test_the_parts_share_no_image_and_together_are_all():
    parts = [set(Digits(EVERY, part, size=8).ids) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == 1797
    assert set.union(*parts) == set(Digits(EVERY, "all", size=8).ids)


def test_every_digit_is_split_in_the_same_shares():
    of_all = np.bincount(load_digits().target)
    for part, share in (("train", 0.6), ("val", 0.15), ("test", 0.25)):
        counts = np.bincount(Digits(EVERY, part, size=8).labels)
        np.testing.assert_allclose(counts, share * of_all, atol=1)


def test_an_image_is_in_the_same_part_whichever_classes_are_asked_for():
    threes = {i for i, label in zip(*every("test"), strict=True) if label == 3}
    assert set(Digits([8, 3], "test", size=8).ids) >= threes
    assert set(Digits([3], "test", size=8).ids) == threes


def every(part):
    digits = Digits(EVERY, part, size=8)
    return digits.ids, digits.labels


def test_the_seed_alone_decides_the_split():
    assert Digits(EVERY, size=8).ids == Digits(EVERY, size=8).ids
    assert Digits(EVERY, size=8, seed=1).ids != Digits(EVERY, size=8).ids


def test_labels_are_places_in_the_list_of_classes():
    digits = Digits([7, 2], "all", size=8)
    raw = load_digits()
    for row, label in zip(digits.ids, digits.labels, strict=True):
        assert raw.target[int(row.removeprefix("digit-"))] == [7, 2][label]


def test_an_item_is_an_image_in_the_range_of_the_model_and_an_int():
    image, label = Digits([0, 1], "val")[0]
    assert image.shape == (1, 32, 32)
    assert image.dtype == torch.float32
    assert type(label) is int
    images = Digits(EVERY, "all").images
    assert (images.min(), images.max()) == (-1, 1)


def test_images_are_the_originals_enlarged():
    digits = Digits([4], "val")
    row = int(digits.ids[5].removeprefix("digit-"))
    original = torch.from_numpy(load_digits().images[row]).float()
    enlarged = F.interpolate(original[None, None], size=(32, 32), mode="bilinear")[0]
    torch.testing.assert_close(digits[5][0], enlarged / 8 - 1)
    assert torch.equal(Digits([4], "val", size=8)[5][0][0], original / 8 - 1)


def test_an_unlabelled_item_is_the_image_alone():
    image = Digits([3, 5], "all", labelled=False)[0]
    assert isinstance(image, torch.Tensor)


@pytest.mark.parametrize("classes", [[], [1, 1], [0, 10], ["3"]])
def test_classes_that_are_no_digits_are_refused(classes):
    message = "Digits: classes must be different digits from 0 to 9, got .*; e.g. "
    with pytest.raises(ConfigError, match=message):
        Digits(classes)


def test_an_unknown_part_suggests_the_nearest():
    with pytest.raises(UnknownName, match="no part of Digits named 'tests'; did you mean 'test'"):
        Digits([1], "tests")


def test_sizes_and_seeds_outside_their_range_are_refused():
    with pytest.raises(ConfigError, match="size must be ≥ 1 and seed ≥ 0, got size 0 and seed 0"):
        Digits([1], size=0)
    with pytest.raises(ConfigError, match="got size 32 and seed -1"):
        Digits([1], seed=-1)
