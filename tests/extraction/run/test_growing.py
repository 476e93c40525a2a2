"""Extracting more into a cache: only what is missing is computed, and nothing else changes."""

import logging

import pytest
import torch

from latentood.errors import FingerprintMismatch
from latentood.extraction.passes.engines import Plain
from latentood.extraction.run.blocks import narrowed
from latentood.extraction.run.job import prepare
from latentood.store.cache import open_cache
from latentood.store.codecs import keep_mantissa
from latentood.store.verify import verify
from latentood.workflows import extract
from tests.extraction.run.test_runner import pipeline, tree

KEPT = {"monte_carlo__keep": ["entropy", "logits"], "layers": ["conv1", "penultimate"]}


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.zarr"
    extract(pipeline(**KEPT), path, splits=["train", "id"])
    return path


def unchanged(before, path):
    after = tree(path)
    return {name.removeprefix("splits/") for name in before if before[name] != after.get(name)} - {
        "zarr.json"
    }


def same_numbers(path, other):
    """Compare with a cache that was written in one go; engines may differ in the last bits."""
    grown, expected = open_cache(path), open_cache(other)
    for split in expected.splits:
        for key in set(expected[split].keys()) - {"head"}:
            tolerance = 1e-3 if "entropy" in key else 1e-5
            a, b = grown[split][key], expected[split][key]
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_an_added_layer_is_all_that_is_computed(small, tmp_path, monkeypatch):
    before = tree(small)
    grown = pipeline(**KEPT | {"layers": ["conv1", "conv2", "penultimate"]})
    summary = extract(grown, small, splits=["train", "id"])
    assert summary.computed == {"train": 50, "id": 23}
    assert summary.finished
    assert unchanged(before, small) == {"train/zarr.json", "id/zarr.json"}
    shards = {name for name in tree(small) if name.endswith("c.0.0") and "/committed" not in name}
    added = shards - before.keys()
    assert added == {
        f"splits/{split}/{kind}/conv2/c.0.0"
        for split in ("train", "id")
        for kind in ("features", "mc/entropy")
    }
    extract(grown, tmp_path / "once.zarr", splits=["train", "id"])
    same_numbers(small, tmp_path / "once.zarr")
    assert verify(small) == []
    assert extract(grown, small).computed == {"train": 0, "id": 0, "far": 17}


def test_kept_features_of_the_passes_can_be_added(small, tmp_path):
    before = tree(small)
    grown = pipeline(**KEPT | {"monte_carlo__keep": ["features"]})
    extract(grown, small, splits=["train", "id"])
    assert unchanged(before, small) == {"train/zarr.json", "id/zarr.json"}
    extract(grown, tmp_path / "once.zarr", splits=["train", "id"])
    same_numbers(small, tmp_path / "once.zarr")
    assert "mc.logits" in open_cache(small)["id"], "what is not asked for any more stays"


def test_an_added_split_changes_no_other(small):
    before = tree(small)
    assert extract(pipeline(**KEPT), small).computed == {"train": 0, "id": 0, "far": 17}
    assert unchanged(before, small) == set()
    assert open_cache(small).splits["far"].complete


def test_fewer_layers_compute_and_delete_nothing(small):
    before = tree(small)
    fewer = pipeline(**KEPT | {"layers": ["penultimate"]})
    assert extract(fewer, small, splits=["train"]).computed == {"train": 0}
    assert unchanged(before, small) == set()


def test_another_reduction_of_a_stored_layer_is_an_error_that_names_both(small):
    before = tree(small)
    other = pipeline(**KEPT | {"layers": [{"conv1": "max"}, "penultimate"]})
    with pytest.raises(
        FingerprintMismatch,
        match='the reduction of features/conv1 is "mean" there but "max" here',
    ):
        extract(other, small, splits=["train"])
    assert tree(small) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"monte_carlo__passes": 5}, "monte_carlo.passes is 4 there but 5 here"),
        ({"monte_carlo__activate": ["drop1"]}, r'activate is true there but \["drop1"\] here'),
        ({"monte_carlo": None}, "monte_carlo.passes is 4 there but null here"),
        ({"seed": 3}, "seed is 0 there but 3 here"),
        ({"extract__keep_bits": 7}, "keep_bits is null there but 7 here"),
    ],
    ids=str,
)
def test_what_decides_the_numbers_may_not_change(small, changes, message):
    with pytest.raises(FingerprintMismatch, match=message):
        extract(pipeline(**KEPT | changes), small)


def test_a_layer_without_passes_needs_none():
    engine = prepare(pipeline()).plan.engine
    narrow = narrowed(engine, {"features/conv1"})
    assert isinstance(narrow, Plain)
    assert [tap.layer for tap in narrow.taps] == ["conv1"]


def test_only_the_layers_of_wanted_entropies_are_followed():
    engine = prepare(pipeline()).plan.engine
    narrow = narrowed(engine, {"mc.entropy/conv2", "features/conv1"})
    assert type(narrow) is type(engine)
    assert narrow.varying == {"conv2"}
    assert [tap.layer for tap in narrow.taps] == ["conv1", "conv2"]
    assert isinstance(narrowed(engine, {"mc.logits"}), type(engine))


def test_rounded_features_are_those_of_the_exact_cache(small, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    extract(pipeline(**KEPT, extract__keep_bits=7), tmp_path / "r", splits=["id"])
    exact, rounded = open_cache(small)["id"], open_cache(tmp_path / "r")["id"]
    for key in ("features/conv1", "mc.logits", "mc.entropy/penultimate"):
        assert rounded[key].equal(torch.from_numpy(keep_mantissa(exact[key].numpy(), 7)))
        assert not rounded[key].equal(exact[key])
    assert rounded["logits"].equal(exact["logits"])
