"""DropBlock against the algorithm of the paper, written out slowly."""

import pytest
import torch

from latentood.models import DropBlock
from latentood.models.dropblock import paper, scale


def training(p=0.4, block_size=3, shared=True):
    return DropBlock(p, block_size, shared).train()


def slow_mask(uniform, p, block_size, height, width):
    """Algorithm 1 with loops: zero the block below and right of every seed."""
    gamma = p / block_size**2 * height * width
    gamma /= (height - block_size + 1) * (width - block_size + 1)
    mask = torch.ones(*uniform.shape[:2], height, width)
    for n, c, i, j in (uniform < gamma).nonzero().tolist():
        mask[n, c, i : i + block_size, j : j + block_size] = 0
    return mask


@pytest.mark.parametrize("block_size", [1, 2, 3, 5])
def test_the_mask_equals_the_algorithm_of_the_paper(block_size):
    uniform = torch.rand(4, 3, 8 - block_size + 1, 6 - block_size + 1)
    expected = slow_mask(uniform, 0.4, block_size, 8, 6)
    assert 0 < expected.mean() < 1
    torch.testing.assert_close(paper(0.4, block_size, (8, 6)).keep(uniform), expected)


def test_the_expected_share_of_dropped_positions_is_close_to_p():
    uniform = torch.rand(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    dropped = 1 - paper(0.1, 3, (10, 10)).keep(uniform)[:, :, 2:-2, 2:-2].mean()
    # eq. 1 counts overlapping blocks twice and edge positions like inner ones
    assert 0.09 < dropped < 0.17


def test_what_is_kept_is_scaled_so_that_a_constant_map_keeps_its_mean():
    out = training()(torch.ones(64, 5, 8, 8))
    torch.testing.assert_close(out.mean(dim=(1, 2, 3)), torch.ones(64))


def test_the_scale_of_a_sample_does_not_depend_on_the_samples_beside_it():
    uniform = torch.rand(6, 3, 6, 6)
    masks = paper(0.4, 3, (8, 8)).keep(uniform)
    alone = torch.cat([scale(mask[None]) for mask in masks])
    assert len(alone.unique()) > 1
    torch.testing.assert_close(scale(masks), alone)
    torch.testing.assert_close(alone[0, 0, 0, 0], masks[0].numel() / masks[0].sum())


def test_a_shared_mask_is_the_same_for_all_channels_and_another_is_not():
    ones = torch.ones(8, 4, 8, 8)
    shared, own = training(shared=True)(ones) == 0, training(shared=False)(ones) == 0
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    assert not torch.equal(own, own[:, :1].expand_as(own))


def test_a_sample_that_loses_everything_becomes_zeros():
    block = training(p=0.999, block_size=8)  # the only block covers the whole map
    torch.manual_seed(0)
    out = block(torch.randn(256, 2, 8, 8))
    assert torch.isfinite(out).all()
    assert (out == 0).flatten(1).all(dim=1).sum() > 200


def test_a_block_larger_than_the_map_is_the_map():
    out = training(p=0.5, block_size=7)(torch.ones(200, 1, 4, 4))
    per_sample = out.flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == 1).all(1)).all()
    assert 50 < (per_sample[:, 0] == 0).sum() < 150


def test_a_block_ends_where_the_map_does():
    out = training(p=0.5, block_size=5)(torch.ones(200, 1, 3, 8))
    dropped = (out[:, 0] == 0).float()
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)), "columns of the full height"
    alone = dropped[:, 0][dropped[:, 0].sum(dim=1) == 5]
    assert len(alone), "and blocks of the full width"
    assert (alone.diff(dim=1).abs().sum(dim=1) <= 2).all()


def test_it_is_the_identity_in_eval_mode_and_at_p_zero():
    maps = torch.randn(2, 3, 8, 8)
    assert DropBlock(0.4, 3).eval()(maps) is maps
    assert training(p=0)(maps) is maps


def test_inputs_are_left_as_they_were():
    maps = torch.randn(2, 3, 8, 8)
    before = maps.clone()
    training()(maps)
    assert torch.equal(maps, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_input_is_kept(dtype):
    assert training()(torch.ones(2, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_it_runs_under_vmap_with_another_mask_for_every_pass():
    maps = torch.ones(2, 3, 8, 8)
    block = training()
    passes = torch.func.vmap(lambda _: block(maps), randomness="different")(torch.arange(16))
    assert passes.shape == (16, 2, 3, 8, 8)
    assert len({tuple(one.flatten().tolist()) for one in passes}) > 10


def test_gradients_flow_through_what_is_kept_alone():
    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    out = training()(maps)
    out.sum().backward()
    assert torch.equal(maps.grad == 0, out == 0)


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"DropBlock: p must be ≥ 0 and < 1, got 1\.5; "):
        DropBlock(p=1.5)
    with pytest.raises(ValueError, match="DropBlock: block_size must be ≥ 1, got 0; "):
        DropBlock(block_size=0)


def test_settings_can_be_read_and_seen():
    block = DropBlock(p=0.3, block_size=5, shared=False)
    assert (block.p, block.block_size, block.shared) == (0.3, 5, False)
    assert repr(block) == "DropBlock(p=0.3, block_size=5, shared=False)"
