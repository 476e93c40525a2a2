"""Made-up images: their distributions, and that (seed, index) alone decides them."""

import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader

from latentood.data import (
    Blob,
    ConstantColour,
    GaussianNoise,
    PhotoPatches,
    Rademacher,
    Uniform,
)
from latentood.errors import ConfigError

KINDS = [GaussianNoise, Uniform, Rademacher, Blob, ConstantColour, PhotoPatches]
SHAPE = (3, 32, 32)


def stack(images):
    return torch.stack(list(images))


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_float32_in_model_space(kind):
    images = kind(5, [3, 16, 24])
    assert images.model_space is True
    assert len(images) == 5
    batch = stack(images)
    assert batch.shape == (5, 3, 16, 24)
    assert batch.dtype == torch.float32
    assert batch.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_seed_and_index_alone(kind):
    images = kind(100, SHAPE, seed=3)
    backwards = stack([images[i] for i in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]).flip(0)
    np.random.seed(7)  # the global state must not matter
    fewer = kind(10, SHAPE, seed=3)
    assert torch.equal(stack(fewer), backwards)
    assert torch.equal(stack(pickle.loads(pickle.dumps(fewer))), backwards)


@pytest.mark.parametrize("kind", KINDS)
def test_other_indices_and_other_seeds_give_other_images(kind):
    every = stack([*kind(8, SHAPE, seed=0), *kind(8, SHAPE, seed=1)])
    assert len(every.flatten(1).unique(dim=0)) == 16


def test_worker_processes_read_the_same_images():
    images = PhotoPatches(6, (1, 8, 8))
    loader = DataLoader(images, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(torch.cat(list(loader)), stack(images))


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_past_the_end_ends_iteration(kind):
    images = kind(2, SHAPE)
    with pytest.raises(IndexError, match="no image 2 of 2"):
        images[2]
    assert len(list(images)) == 2


def test_gaussian_noise_has_half_the_spread_of_the_range_and_is_clipped():
    values = stack(GaussianNoise(50, SHAPE))
    # a N(0, 0.5²) clipped at ±2σ has standard deviation 0.5·0.9594
    assert values.mean().abs() < 0.01
    assert values.std() == pytest.approx(0.4797, abs=0.005)
    share_clipped = (values.abs() == 1).double().mean()
    assert share_clipped == pytest.approx(0.0455, abs=0.003)


def test_uniform_noise_is_spread_evenly_over_the_whole_range():
    counts = torch.histc(stack(Uniform(50, SHAPE)), bins=10, min=-1, max=1)
    assert counts.sum() == 50 * 3 * 32 * 32
    assert (counts / counts.sum() - 0.1).abs().max() < 0.005


def test_an_image_has_one_colour_and_the_colours_are_spread_over_the_whole_range():
    images = stack(ConstantColour(500, SHAPE)).flatten(2)
    assert torch.equal(images, images[..., :1].expand_as(images))
    colours = images[..., 0]
    assert torch.histc(colours, bins=5, min=-1, max=1).min() > 0.15 * colours.numel()
    assert torch.corrcoef(colours.T).triu(1).abs().max() < 0.15


def test_rademacher_is_plus_or_minus_one_with_equal_chance():
    values = stack(Rademacher(50, SHAPE))
    assert values.unique().tolist() == [-1, 1]
    assert values.mean().abs() < 0.01


def test_blobs_are_black_or_above_the_threshold():
    values = stack(Blob(50, SHAPE))
    bright = values[values > -1]
    assert bright.min() >= 2 * 0.75 - 1
    assert 0.2 < len(bright) / values.numel() < 0.5


def test_a_blob_is_the_recipe_of_the_paper_channel_by_channel():
    coins = np.random.Generator(np.random.Philox(np.random.SeedSequence(5, spawn_key=(2,))))
    pixels = (coins.random(SHAPE) < 0.7).astype(float)
    for channel, drawn in zip(Blob(3, SHAPE, seed=5)[2], pixels, strict=True):
        blurred = gaussian_filter(drawn, sigma=1.5)
        blurred[blurred < 0.75] = 0
        np.testing.assert_allclose(channel, 2 * blurred - 1, atol=1e-6)


def test_channels_of_a_blob_are_independent():
    red, green = stack(Blob(100, (2, 16, 16))).transpose(0, 1).flatten(1)
    assert torch.corrcoef(torch.stack([red, green]))[0, 1].abs() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, SHAPE), "Blob: length must be ≥ 0, got -1; 2000 is usual"),
        ((2, (32, 32)), r"Blob: shape must be three numbers ≥ 1 \(C, H, W\), got \[32, 32\]; give"),
        ((2, (3, 0, 32)), r"Blob: shape must be three numbers .*, got \[3, 0, 32\]; give"),
        ((2, SHAPE, -1), "Blob: seed must be ≥ 0, got -1; 0 is the default"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Blob(*arguments)
