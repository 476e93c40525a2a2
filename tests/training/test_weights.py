"""Weights on disk."""

import errno

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from latentood.training import save_weights
from tests.store.faults import Disk, attached


def test_saved_weights_load_as_they_were(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    path = tmp_path / "new" / "net.safetensors"
    save_weights(net, path)
    saved = load_file(path)
    assert saved.keys() == net.state_dict().keys()
    assert all(torch.equal(saved[name], t) for name, t in net.state_dict().items())


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)
    path = tmp_path / "net.safetensors"
    save_weights(old, path)
    for step in ("write", "fsync", "replace"):
        full = attached(Disk(0, errno.ENOSPC, (step,)))
        with full, pytest.raises(OSError, match="No space left"):
            save_weights(new, path)
        assert torch.equal(load_file(path)["weight"], old.weight)
        assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]
    save_weights(new, path)
    assert torch.equal(load_file(path)["weight"], new.weight)
