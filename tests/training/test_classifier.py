"""Training a small classifier."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from latentood.errors import ConfigError, DataError, ModelError
from latentood.training import accuracy, train_classifier


def blobs(rows=200):
    """Two clouds that a line tells apart."""
    labels = torch.arange(rows) % 2
    points = torch.randn(rows, 2, generator=torch.Generator().manual_seed(1)) * 0.3
    return TensorDataset(points + 2 * labels[:, None] - 1, labels)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def trained(**options):
    net = network()
    train_classifier(net, blobs(), **{"epochs": 3, "batch_size": 20} | options)
    return net


def weights(net):
    return torch.cat([p.flatten() for p in net.parameters()])


def test_it_learns_to_tell_two_clouds_apart():
    assert accuracy(network(), blobs()) < 0.8
    assert accuracy(trained(), blobs()) > 0.98


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    assert torch.equal(weights(trained(seed=1)), weights(trained(seed=1)))
    assert not torch.equal(weights(trained(seed=1)), weights(trained(seed=2)))


def test_the_callers_random_state_decides_nothing_and_stays_as_it_was():
    first, second = network(), network()
    for seed, net in ((5, first), (99, second)):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        train_classifier(net, blobs(), epochs=1)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights(first), weights(second))


def test_a_trained_model_is_left_in_eval_mode():
    assert not trained().training


def test_progress_counts_the_epochs():
    messages = []
    trained(progress=lambda done, of: messages.append((done, of)))
    assert messages == [(1, 3), (2, 3), (3, 3)]


def test_accuracy_is_the_share_of_right_rows_whatever_the_batch_size():
    class Sign(nn.Module):
        def forward(self, x):
            return torch.stack([-x[:, 0], x[:, 0]], dim=1)

    rows = TensorDataset(torch.tensor([[1.0], [1.0], [-1.0]]), torch.tensor([1, 0, 0]))
    assert [accuracy(Sign(), rows, batch_size=b) for b in (1, 2, 3)] == [2 / 3] * 3


def test_a_diverging_run_is_an_error_that_names_the_rate():
    with pytest.raises(
        ModelError, match=r"the loss must stay finite, got .* in epoch \d; lower lr"
    ):
        trained(lr=1e30)


def test_a_loss_that_is_not_a_number_is_an_error_too():
    rows = TensorDataset(torch.full((4, 2), math.nan), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ModelError, match="the loss must stay finite, got nan in epoch 1"):
        train_classifier(network(), rows, epochs=1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epochs": 0}, "train_classifier: epochs must be ≥ 1, got 0"),
        ({"lr": 0.0}, r"train_classifier: lr must be > 0, got 0\.0"),
        ({"batch_size": 0}, "train_classifier: batch_size must be ≥ 1, got 0"),
    ],
)
def test_numbers_outside_their_range_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        trained(**option)


def test_a_data_set_without_rows_is_refused():
    with pytest.raises(DataError, match="train_classifier: the data set must have rows, got none"):
        train_classifier(network(), blobs(0), epochs=1)
    with pytest.raises(DataError, match="accuracy: the data set must have rows, got none"):
        accuracy(network(), blobs(0))
