"""Patches of photographs."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from latentood.data import PhotoPatches
from latentood.data.photos import photos
from latentood.errors import ConfigError


def test_the_photographs_span_the_range_of_a_model_input():
    for photo, raw in zip(photos(grey=False), load_sample_images().images, strict=True):
        assert photo.shape == (3, 427, 640)
        np.testing.assert_allclose((photo + 1) * 127.5, raw.transpose(2, 0, 1), atol=1e-9)


def test_the_largest_patch_is_a_photograph_itself():
    patch = PhotoPatches(1, (3, 427, 640))[0]
    originals = [torch.from_numpy(photo).float() for photo in photos(grey=False)]
    assert any(torch.equal(patch, original) for original in originals)


def test_grey_patches_are_the_luma_of_the_colour_ones():
    colour, grey = PhotoPatches(4, (3, 32, 32), seed=1), PhotoPatches(4, (1, 32, 32), seed=1)
    weights = torch.tensor([0.299, 0.587, 0.114])
    for ours, theirs in zip(grey, colour, strict=True):
        torch.testing.assert_close(ours[0], torch.einsum("chw,c->hw", theirs, weights))


def test_a_patch_is_shrunk_by_averaging(monkeypatch):
    board = 1.0 - 2 * (np.indices((427, 640)).sum(axis=0) % 2)
    monkeypatch.setattr("latentood.data.photos.photos", lambda grey: (board[None],))
    values = torch.stack(list(PhotoPatches(100, (1, 32, 32)))).abs().unique().tolist()
    # s × s fields of a chess board of ±1 average to 0 for even s and to ±1/s² for odd s
    expected = [0, *(1 / step**2 for step in range(13, 0, -2))]
    assert values == pytest.approx(expected, abs=1e-6)


def test_patches_are_textures_and_not_one_colour():
    spreads = torch.stack(list(PhotoPatches(50, (1, 32, 32)))).flatten(1).std(dim=1)
    assert spreads.median() > 0.1


def test_shapes_no_photograph_can_fill_are_refused():
    with pytest.raises(ConfigError, match=r"must have 1 \(grey\) or 3 \(colour\) channels, got 2"):
        PhotoPatches(1, (2, 32, 32))
    with pytest.raises(ConfigError, match="must be at most 427 × 640, got 32 × 641; make smaller"):
        PhotoPatches(1, (3, 32, 641))
