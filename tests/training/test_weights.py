"""Weights on disk."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from latentood.training import save_weights
from latentood.training.weights import write_whole


def test_saved_weights_load_as_they_were(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    path = tmp_path / "new" / "net.safetensors"
    save_weights(net, path)
    saved = load_file(path)
    assert saved.keys() == net.state_dict().keys()
    assert all(torch.equal(saved[name], t) for name, t in net.state_dict().items())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(self, content):
        with self.open("wb") as file:
            file.write(content[:2])
        raise OSError("disk full")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
