"""Digests of the inputs in a cache."""

import numpy as np
import pytest
import torch
import xxhash

from latentood.extraction.run import blocks, layout
from latentood.extraction.run.inputs import hashes
from latentood.extraction.run.job import prepare
from latentood.latents import HASHES
from latentood.store.cache import open_cache
from latentood.store.verify import verify
from latentood.workflows import extract
from tests.extraction.run.test_runner import pipeline, tree

FEW = {"layers": ["penultimate"], "monte_carlo": None}


def test_a_digest_is_that_of_dtype_shape_and_bytes():
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    expected = xxhash.xxh3_64_intdigest(b"float32 (3, 2, 2)" + image.tobytes())
    (value,) = hashes(torch.from_numpy(image)[None]).numpy().view(np.uint64).tolist()
    assert value == expected


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(2, 3, 4, dtype=torch.float64),
        torch.zeros(2, 4, 3),
        torch.zeros(2, 3, 4, dtype=torch.int32),
        torch.zeros(2, 3, 4).index_fill_(2, torch.tensor([3]), 1e-30),
    ],
    ids=["dtype", "shape", "same bytes of another type", "one number"],
)
def test_another_input_has_another_digest(other):
    assert not torch.isin(hashes(other), hashes(torch.zeros(2, 3, 4))).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8, torch.bool, torch.float16])
def test_inputs_of_any_type_have_digests_that_do_not_depend_on_memory_order(dtype):
    batch = (torch.rand(4, 3, 5, 5) > 0.5).to(dtype)
    assert len(set(hashes(batch).tolist())) == 4
    last = batch.contiguous(memory_format=torch.channels_last)
    assert torch.equal(hashes(last), hashes(batch))
    assert torch.equal(hashes(torch.zeros(2)), hashes(torch.zeros(1)).expand(2))


@pytest.mark.parametrize("size", [4, 50])
def test_a_cache_holds_the_digests_of_its_inputs(tmp_path, size):
    job = prepare(pipeline(**FEW))
    expected = hashes(job.inputs["train"].first(50))
    extract(pipeline(**FEW, extract__batch_size=size), tmp_path / "s", splits=["train"])
    stored = open_cache(tmp_path / "s")["train"][HASHES]
    assert stored.dtype == torch.int64
    assert torch.equal(stored, expected)


def test_an_older_cache_gets_its_digests_without_a_run_of_the_model(tmp_path, monkeypatch):
    path, of_rows = tmp_path / "older.zarr", layout._of_rows
    with monkeypatch.context() as older:
        older.setattr(layout, "_of_rows", lambda *a: [s for s in of_rows(*a) if s.key != HASHES])
        extract(pipeline(**FEW), path, splits=["train"])
    assert HASHES not in open_cache(path)["train"]
    before = tree(path)
    with monkeypatch.context() as broken:
        broken.setattr(blocks, "_compute", None)
        assert extract(pipeline(**FEW), path, splits=["train"]).computed == {"train": 50}
    extract(pipeline(**FEW), tmp_path / "once", splits=["train"])
    once = open_cache(tmp_path / "once")["train"]
    assert torch.equal(open_cache(path)["train"][HASHES], once[HASHES])
    arrays = [name for name in before if "/c." in name]
    assert {name: tree(path)[name] for name in arrays} == {name: before[name] for name in arrays}
    assert verify(path) == []
