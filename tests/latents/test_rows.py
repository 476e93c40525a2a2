"""Rows that are kept once they were read, and the budget they share."""

import pytest
import torch

from latentood.latents import Latents
from latentood.latents.rows import Budget, Kept


class Counted:
    """Rows 0, 1, 2 … that count how often each is read."""

    def __init__(self, *shape):
        self.shape = shape
        self.values = torch.arange(torch.Size(shape).numel()).reshape(shape)
        self.times = torch.zeros(shape[0], dtype=torch.int64)

    def read(self, start, stop):
        self.times[start:stop] += 1
        return self.values[start:stop].clone()


@pytest.mark.parametrize("limit", [0, 4096 * 3 * 8, 1 << 30])
def test_rows_are_those_of_the_array_whatever_the_budget(limit):
    rows = Counted(10_000, 3)
    kept = Kept(rows, Budget(limit))
    for start, stop in [(0, 1), (0, 4096), (4000, 9000), (9999, 10_000), (50, 50), (0, 10_000)]:
        assert torch.equal(kept.read(start, stop), rows.values[start:stop])


def test_what_fits_is_read_once_and_the_rest_again():
    rows, budget = Counted(10_000, 3), Budget(4096 * 3 * 8)
    kept = Kept(rows, budget)
    for _ in range(3):
        kept.read(0, 10_000)
    assert set(rows.times[:4096].tolist()) == {1}
    assert set(rows.times[4096:8192].tolist()) == {3}
    assert budget.used == 4096 * 3 * 8


def test_a_probe_of_the_first_row_costs_no_second_read_even_without_budget():
    rows = Counted(10_000, 3)
    kept = Kept(rows, Budget(0))
    kept.read(0, 1)
    for start in range(0, 10_000, 4096):
        kept.read(start, start + 4096)
    assert set(rows.times.tolist()) == {1}


def test_one_number_per_row_is_always_kept_and_not_charged():
    rows, budget = Counted(10_000), Budget(0)
    kept = Kept(rows, budget)
    kept.read(0, 10_000)
    kept.read(0, 10_000)
    assert set(rows.times.tolist()) == {1}
    assert budget.used == 0


def test_wide_rows_are_held_in_smaller_groups():
    rows = Counted(1024, 40_000)
    Kept(rows, Budget(0)).read(0, 1)
    assert int(rows.times.sum()) == 256


def test_a_budget_is_shared_and_given_back():
    budget = Budget(1000)
    assert budget.claim(600)
    assert not budget.claim(600)
    budget.give_back(600)
    kept = Kept(Counted(10, 3), budget)
    kept.read(0, 10)
    assert budget.used == 240
    del kept
    assert budget.used == 0


def test_latents_within_a_budget_share_what_is_known_and_memory_is_not_wrapped():
    lazy = Latents.from_rows({"logits": Counted(5, 2)})
    assert lazy.within(Budget(9)).origin == lazy.origin
    here = Latents(logits=torch.zeros(2, 2))
    assert here.within(Budget(9)) is here
