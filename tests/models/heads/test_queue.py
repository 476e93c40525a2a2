"""The newest feature vectors of every class."""

from collections import deque

import pytest
import torch

from latentood.models.heads.queue import FeatureQueue


def batches(count=9, width=3, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        labels = torch.randint(classes - 1, (7,), generator=generator)  # one class has no rows
        yield torch.randn(7, width, generator=generator), labels


def held(queue):
    rows, labels = queue.rows()
    return {y: {tuple(row) for row in rows[labels == y].tolist()} for y in labels.tolist()}


@pytest.mark.parametrize("size", [1, 2, 5, 11, 100])
def test_each_class_keeps_its_newest_rows(size):
    queue = FeatureQueue(4, size)
    wanted = [deque(maxlen=size) for _ in range(4)]
    for features, labels in batches():
        queue.add(features, labels)
        for row, y in zip(features.tolist(), labels.tolist(), strict=True):
            wanted[y].append(tuple(row))
        assert held(queue) == {y: set(rows) for y, rows in enumerate(wanted) if rows}
        assert queue.count == sum(map(len, wanted))


def test_rows_carry_no_gradient():
    queue = FeatureQueue(4, 3)
    features, labels = next(batches())
    queue.add(features.requires_grad_(), labels)
    assert not queue.rows()[0].requires_grad


@pytest.mark.parametrize("before", [0, 1, 6])
def test_a_queue_that_is_loaded_goes_on_as_the_one_that_was_saved(before):
    every = list(batches())
    whole, first, second = (FeatureQueue(4, 5) for _ in range(3))
    for one in every:
        whole.add(*one)
    for one in every[:before]:
        first.add(*one)
    state = first.state_dict()
    assert [type(value) for value in state.values()] == [torch.Tensor]
    second.load_state_dict(state)
    for one in every[before:]:
        second.add(*one)
    for a, b in zip(whole.rows(), second.rows(), strict=True):
        assert torch.equal(a, b)


def test_a_saved_state_does_not_change_with_the_queue():
    queue = FeatureQueue(4, 5)
    for one in batches():
        queue.add(*one)
    state = queue.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    other = FeatureQueue(4, 5)
    other.load_state_dict(state)
    for one in batches(seed=1):
        queue.add(*one)
        other.add(*one)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_state_without_rows_leaves_the_queue_as_it_is():
    queue = FeatureQueue(4, 5)
    queue.add(*next(batches()))
    queue.load_state_dict({})
    assert queue.count == 7


def test_features_of_another_width_begin_anew():
    queue = FeatureQueue(4, 5)
    queue.add(*next(batches(width=3)))
    queue.add(*next(batches(width=2)))
    assert queue.rows()[0].shape == (7, 2)
