"""Masks depend on row and pass alone, and have the distributions of the papers."""

import hashlib

import pytest
import torch
from torch.func import vmap

from latentood.extraction.passes.noise import (
    OFF,
    AlphaDropout,
    DropBlock,
    Dropout,
    row_keys,
    uniform,
)

MAP = (6, 10, 10)
NOISES = [
    Dropout(0.3),
    Dropout(0.3, axes=1),
    Dropout(0.3, axes=0),
    Dropout(0.3, axes=0, scale=False),
    DropBlock(0.4, 3, shared=True),
    DropBlock(0.4, 4, shared=False),
    DropBlock(0.4, 99),
    DropBlock(0.4, 4, variant="timm", scale=False),
    DropBlock(0.4, 4, variant="dropblock"),
    AlphaDropout(0.2),
    AlphaDropout(0.2, axes=1),
]


def keys(rows: int = 7, seed: int = 3) -> torch.Tensor:
    return row_keys(seed, torch.arange(rows))


def turn(index: int) -> torch.Tensor:
    return torch.tensor(index)


def test_the_generator_is_splitmix64():
    # Reference: state += γ; output = mix(state), in arbitrary-precision Python integers.
    def reference(state):
        full = (1 << 64) - 1
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & full
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & full
        return state ^ (state >> 31)

    full, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    key = int(keys(1)[0]) & full
    stream = reference((key + reference((4 * golden + 2) & full)) & full)
    expected = [(reference((stream + i * golden) & full) >> 40) / 2**24 for i in range(1, 6)]
    assert uniform(keys(1), turn(3), 2, 5)[0].tolist() == expected


def test_draws_are_uniform_and_uncorrelated():
    draws = uniform(keys(200), turn(0), 0, 2000).double()
    assert abs(draws.mean() - 0.5) < 0.002
    assert abs(draws.var() - 1 / 12) < 0.001
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.12
    counts = torch.histc(draws, 50, 0, 1)
    chi_square = ((counts - 8000) ** 2 / 8000).sum()
    assert chi_square < 100  # 49 degrees of freedom: p ≈ 2e-5


@pytest.mark.parametrize(
    ("noise", "digest"),
    [
        (Dropout(0.3), "0b575b6755b974e2"),
        (Dropout(0.3, axes=1), "ef44fcf645ba5134"),
        (Dropout(0.3, axes=0), "06944f71257df51b"),
        (DropBlock(0.4, 3), "33e65ec514ced4ba"),
        (DropBlock(0.4, 4, shared=False), "67d1e4e0792fbd25"),
        (DropBlock(0.4, 99), "8e6e07c9f79cbe4f"),
    ],
    ids=repr,
)
def test_masks_are_those_of_the_first_caches(noise, digest):
    masks = [noise.mask(keys(50), turn(index), 5, (6, 10, 9)) for index in range(4)]
    assert hashlib.sha256(torch.cat(masks).numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_a_row_gets_the_same_noise_in_any_batch(noise):
    x = torch.randn(7, *MAP, generator=torch.Generator().manual_seed(0))
    whole = noise.apply(x, keys(), turn(2), 0)
    alone = torch.cat([noise.apply(x[i : i + 1], keys()[i : i + 1], turn(2), 0) for i in range(7)])
    assert torch.equal(whole, alone)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_vmap_over_the_passes_gives_the_same_noise_as_a_loop(noise):
    x = torch.randn(3, *MAP, generator=torch.Generator().manual_seed(0))
    turns = torch.arange(OFF, 5)
    together = vmap(lambda t: noise.apply(x, keys(3), t, 1))(turns)
    assert torch.equal(together, torch.stack([noise.apply(x, keys(3), t, 1) for t in turns]))
    assert torch.equal(together[0], x), "the pass OFF is the identity"
    assert not torch.equal(together[1], together[2])


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_other_seeds_and_sites_give_other_noise(noise):
    x = torch.ones(20, *MAP)
    first = noise.apply(x, keys(20), turn(0), 0)
    assert not torch.equal(first, noise.apply(x, keys(20, seed=4), turn(0), 0))
    assert not torch.equal(first, noise.apply(x, keys(20), turn(0), 1))


@pytest.mark.parametrize("noise", NOISES[:3], ids=repr)
def test_dropout_drops_the_share_p_and_keeps_the_mean(noise):
    out = noise.apply(torch.ones(4000, *MAP), keys(4000), turn(0), 0)
    assert abs((out == 0).float().mean() - 0.3) < 0.02
    assert abs(out.mean() - 1) < 0.03
    assert out.max() == pytest.approx(1 / 0.7)


def test_channel_dropout_drops_whole_channels():
    out = Dropout(0.5, axes=1).apply(torch.ones(50, *MAP), keys(50), turn(0), 0)
    flat = out.flatten(2)
    assert (flat == flat[..., :1]).all()
    assert 0.4 < (flat[..., 0] == 0).float().mean() < 0.6


def test_dropblock_drops_squares_and_counts_per_row():
    out = DropBlock(0.3, 3).apply(torch.ones(300, *MAP), keys(300), turn(0), 0)
    assert torch.equal(out[:, 0], out[:, 5]), "one mask for all channels"
    dropped = (out[:, 0] == 0).float()
    # Every dropped position lies in a fully dropped 3×3 square.
    full = torch.nn.functional.avg_pool2d(dropped[:, None], 3, stride=1) > 0.999
    covered = torch.nn.functional.max_pool2d(
        torch.nn.functional.pad(full.float(), (2, 2, 2, 2)), 3, stride=1
    )
    assert torch.equal(covered[:, 0], dropped)
    sums = out[:, 0].sum(dim=(1, 2))
    assert torch.allclose(sums, torch.full_like(sums, 100.0)), "count(M)/count_ones(M), per row"
    # Expected share: squares of rate γ overlap, 1 − (1 − γ)^9 in the interior of the map.
    gamma = 0.3 / 9 * 100 / 64
    assert abs(dropped[:, 4, 4].mean() - (1 - (1 - gamma) ** 9)) < 0.08


def test_dropblock_per_channel_has_a_mask_for_each_channel():
    out = DropBlock(0.4, 3, shared=False).apply(torch.ones(9, *MAP), keys(9), turn(0), 0)
    assert not torch.equal(out[:, 0] == 0, out[:, 1] == 0)


def test_a_row_that_loses_everything_becomes_zeros():
    out = DropBlock(0.999, 10).apply(torch.ones(200, 2, 10, 10), keys(200), turn(0), 0)
    assert torch.isfinite(out).all()
    assert (out.flatten(1).sum(dim=1) == 0).float().mean() > 0.95


def test_alpha_dropout_keeps_mean_and_variance():
    x = torch.randn(500, *MAP, generator=torch.Generator().manual_seed(0))
    out = AlphaDropout(0.3).apply(x, keys(500), turn(0), 0)
    assert abs(out.mean()) < 0.02
    assert abs(out.var() - 1) < 0.03
