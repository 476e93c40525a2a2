"""The hash of weights changes with what differs, and with nothing else."""

import numpy as np
import pytest
import torch

from latentood.extraction.model.weights import hash_tensors


def weights():
    return {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2)}


def test_equal_tensors_hash_equal_whatever_their_order_and_strides():
    turned = dict(reversed(weights().items()))
    turned["conv.weight"] = turned["conv.weight"].T.contiguous().T
    assert hash_tensors(turned) == hash_tensors(weights())


@pytest.mark.parametrize(
    "change",
    [
        {"conv.weight": torch.arange(6.0).reshape(3, 2)},
        {"conv.weight": torch.arange(6.0).reshape(2, 3).to(torch.float64)},
        {"conv.bias": torch.tensor([0.0, np.nextafter(np.float32(0), np.float32(1))])},
        {"conv.bias": torch.tensor([0.0, -0.0])},
        {"other": torch.zeros(2)},
    ],
    ids=["shape", "dtype", "smallest value", "sign of zero", "name"],
)
def test_any_change_of_a_tensor_changes_the_hash(change):
    assert hash_tensors(weights() | change) != hash_tensors(weights())


def test_every_kind_of_tensor_can_be_hashed():
    kinds = [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64]
    hashes = {hash_tensors({"x": torch.ones(3, dtype=kind)}) for kind in kinds}
    hashes |= {hash_tensors({"x": torch.tensor(1.0)}), hash_tensors({"x": torch.zeros(0)})}
    assert len(hashes) == 7


def test_a_parameter_hashes_like_its_values():
    tensor = torch.ones(3)
    assert hash_tensors({"w": torch.nn.Parameter(tensor)}) == hash_tensors({"w": tensor})
