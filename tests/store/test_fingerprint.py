"""Fingerprints tell what differs, and nothing else."""

import hashlib

import numpy as np
import pytest
import torch

from latentood.errors import ConfigError
from latentood.latents.facts import digest
from latentood.report.results import plain
from latentood.store.fingerprint import hash_tensors


def test_a_digest_does_not_depend_on_the_order_of_keys_nor_on_tuples():
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_digest_is_the_sha256_that_other_languages_compute():
    written = rb'{"a":"\u00e9","b":[1,null]}'
    assert digest({"b": [1, None], "a": "é"}) == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, {1, 2}])
def test_what_is_not_json_is_refused_with_a_next_step(value):
    with pytest.raises(ConfigError, match=r"must be JSON, got .*; give strings, finite numbers"):
        digest(value)


def test_plain_gives_what_json_would_give_back():
    assert plain({1: (2, 3)}) == {"1": [2, 3]}


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
