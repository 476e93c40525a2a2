"""Images that went through a function."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from latentood.data import (
    Corrupted,
    GaussianNoise,
    PatchShuffle,
    PixelPermutation,
    Rotations,
)
from latentood.errors import ConfigError, DataError
from tests.data.sources import COLOURS, LABELS, Pictures, as_tensor

KINDS = [PixelPermutation, PatchShuffle, Rotations]


def image_of(item):
    return as_tensor(item[0] if isinstance(item, tuple) else item)


def images(data):
    return [image_of(item) for item in data]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def pixels(image):
    """All pixels of (C, H, W), in an order of their own."""
    return sorted(map(tuple, image.flatten(1).T.tolist()))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_seed_and_index_alone(kind):
    data = kind(Pictures(), seed=3)
    every = images(data)
    torch.manual_seed(5)  # the global state must not matter
    backwards = [image_of(data[i]) for i in reversed(range(6))]
    assert same(every, backwards[::-1])
    assert same(every, images(pickle.loads(pickle.dumps(data))))
    assert not same(every, images(kind(Pictures(), seed=4)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_random_numbers_of_others_are_left_alone(kind):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    kind(Pictures())[0]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_back_as_what_they_were(kind):
    tensors, pil = kind(Pictures()), kind(Pictures("pil"))
    assert same(images(tensors), images(pil))
    assert all(isinstance(image_of(item), torch.Tensor) for item in tensors)
    first = pil[0]
    assert isinstance(first[0] if isinstance(first, tuple) else first, Image.Image)


@pytest.mark.parametrize("kind", KINDS)
def test_made_up_images_and_grey_ones_can_be_changed_too(kind):
    noise = kind(GaussianNoise(3, (1, 8, 8)))
    assert noise.model_space is True
    assert pixels(noise[0]) == pixels(GaussianNoise(3, (1, 8, 8))[0])


def test_permuted_pixels_are_the_same_pixels_elsewhere_and_without_a_label():
    data = PixelPermutation(Pictures())
    for changed, original in zip(data, COLOURS, strict=True):
        assert pixels(changed) == pixels(original)
        assert (changed == original).all(dim=0).double().mean() < 0.1


def test_every_image_is_permuted_in_its_own_way():
    ramp = torch.arange(96).reshape(1, 1, 8, 12).byte().repeat(2, 1, 1, 1)
    first, second = PixelPermutation(Pictures(images=ramp, labels=[0, 0]))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("patches", [2, 4])
def test_no_patch_stays_where_it_was_and_none_is_lost(patches):
    data = PatchShuffle(Pictures(images=COLOURS.repeat(20, 1, 1, 1), labels=LABELS * 20), patches)
    height, width = 8 // patches, 12 // patches
    for (changed, _), original in zip(data, data.source.images_, strict=True):
        cut = [
            image.unfold(1, height, height).unfold(2, width, width).transpose(0, 2).flatten(0, 1)
            for image in (changed, original)
        ]
        assert not (cut[0] == cut[1]).flatten(1).all(dim=1).any()
        assert sorted(cut[0].flatten(1).tolist()) == sorted(cut[1].flatten(1).tolist())


def test_the_rest_that_fills_no_patch_is_cut_off():
    image, label = PatchShuffle(Pictures(), patches=5)[1]
    assert image.shape == (3, 5, 10)
    assert pixels(image) == pixels(COLOURS[1, :, :5, :10])
    assert label == 1


def test_images_smaller_than_the_grid_are_refused():
    with pytest.raises(DataError, match=r"at least 9 × 9 .*, got 8 × 12; lower patches"):
        PatchShuffle(Pictures(), patches=9)[0]
    with pytest.raises(ConfigError, match="PatchShuffle: patches must be ≥ 2, got 1; 4 is the def"):
        PatchShuffle(Pictures(), patches=1)


def test_quarter_turns_are_exact_and_keep_the_label():
    for angle, turns in ((90, 1), (180, 2), (-90, 3), (0, 0)):
        for (image, label), original, given in zip(
            Rotations(Pictures(), angle), COLOURS, LABELS, strict=True
        ):
            assert np.array_equal(image, np.rot90(original, turns, axes=(1, 2)))
            assert label == given


def test_other_angles_turn_the_same_way_round_as_quarter_turns():
    corner = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    corner[..., :5, 10:] = 200  # top right → top left
    for angle in (90, 89, 91.5):
        image, _ = Rotations(Pictures(images=corner, labels=[0]), angle)[0]
        assert image[0, 3, 3] == 200
        assert image[0, 3, 16] == 0


def test_each_of_several_angles_is_used():
    square = COLOURS[:1, :, :8, :8].repeat(60, 1, 1, 1)
    turned = [image for image, _ in Rotations(Pictures(images=square, labels=[0] * 60))]
    counts = [
        sum(torch.equal(image, torch.rot90(square[0], turns, (1, 2))) for image in turned)
        for turns in range(4)
    ]
    assert counts[0] == 0
    assert sum(counts) == 60
    assert min(counts[1:]) >= 8
    with pytest.raises(
        ConfigError, match=r"Rotations: degrees must be an angle or several, got no"
    ):
        Rotations(Pictures(), [])


def test_any_of_torchvisions_transforms_makes_a_data_set():
    data = Corrupted(Pictures("pil"), v2.RandomResizedCrop(5), seed=2)
    assert data[2][0].size == (5, 5)
    assert same(images(data), images(data))
    assert [label for _, label in data] == LABELS
    assert not isinstance(Corrupted(Pictures(), v2.Identity(), labelled=False)[0], tuple)


def test_palettes_are_changed_as_colours():
    image = Image.fromarray(COLOURS[0].permute(1, 2, 0).numpy()).quantize(8)
    data = Rotations([image], 180)
    assert torch.equal(as_tensor(data[0]), as_tensor(image.convert("RGB")).flip(1, 2))


def test_what_cannot_be_an_image_is_refused():
    message = r"must be a PIL image or a tensor \(C, H, W\), got ndarray; leave conversions"
    with pytest.raises(DataError, match=message):
        PixelPermutation([np.zeros((4, 4, 3))])[0]
    with pytest.raises(DataError, match=r"got torch.float32 \(4, 4\); leave"):
        PixelPermutation([torch.zeros(4, 4)])[0]


def test_a_function_that_cannot_be_called_and_a_bad_seed_are_refused():
    with pytest.raises(ConfigError, match="Corrupted: function must be callable, got 'blur'; name"):
        Corrupted(Pictures(), "blur")
    with pytest.raises(ConfigError, match="PixelPermutation: seed must be ≥ 0, got -1; 0 is the"):
        PixelPermutation(Pictures(), seed=-1)
