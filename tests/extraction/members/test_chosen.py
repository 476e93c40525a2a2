import pytest
import torch

from latentood.extraction.members.chosen import choose
from latentood.extraction.passes.noise import row_keys

KEYS = row_keys(7, torch.arange(50))


def test_a_sample_is_the_same_in_any_batch_and_order():
    allowed = torch.rand(50, 40) < 0.8
    whole = choose(allowed, KEYS, 10)
    order = torch.randperm(50)
    mixed = choose(allowed[order], KEYS[order], 10)
    assert mixed.index.equal(whole.index[order])
    assert mixed.there.equal(whole.there[order])
    alone = choose(allowed[3:4], KEYS[3:4], 10)
    assert alone.index[0].equal(whole.index[3])


def test_members_are_in_order_allowed_and_different_for_every_image():
    allowed = torch.rand(50, 40) < 0.8
    chosen = choose(allowed, KEYS, 10)
    assert chosen.there.all()
    assert (chosen.index.diff(dim=1) > 0).all()
    assert allowed.gather(1, chosen.index).all()
    assert len({tuple(row) for row in chosen.index.tolist()}) > 45


def test_every_place_is_chosen_equally_often():
    keys = row_keys(1, torch.arange(4000))
    chosen = choose(torch.ones(4000, 20, dtype=torch.bool), keys, 5)
    counts = torch.bincount(chosen.index.flatten(), minlength=20)
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("most", [3, 6])
def test_absent_members_come_last_and_are_zeros(most):
    allowed = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    chosen = choose(allowed, KEYS[:3], most)
    assert chosen.count.tolist() == [2, 0, most]
    assert chosen.index[0, :2].tolist() == [1, 4]
    values = torch.randn(3, 6, 2, 2)
    taken = chosen.take(values)
    assert taken.shape == (3, most, 2, 2)
    assert taken[0, :2].equal(values[0, [1, 4]])
    assert not taken[0, 2:].any()
    assert not taken[1].any()
    assert taken[2].equal(values[2, chosen.index[2]])
