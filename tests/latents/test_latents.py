"""Named arrays of rows: what they hold, what they give, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import latentood.latents as package
from latentood.errors import ConfigError, DataError, MissingInput
from latentood.latents import CHUNK_ROWS, Key, Latents
from tests.latents.test_rows import Counted


def full(count=7):
    """Every kind of array."""
    draw = torch.Generator().manual_seed(0)
    return Latents(
        logits=torch.randn(count, 3, generator=draw),
        features={"a": torch.randn(count, 4, generator=draw).half()},
        labels=np.arange(count) % 3,
        head=(torch.randn(3, 4, generator=draw), torch.zeros(3)),
        mc_logits=torch.randn(count, 2, 3, generator=draw),
        mc_features={"a": torch.randn(count, 2, 4, generator=draw)},
        mc_entropy={"a": torch.randn(count, 4, generator=draw)},
        scores={"odin": torch.randn(count, generator=draw).double()},
        name="train",
    )


KEYS = (
    "logits", "labels", "mc.logits", "features/a", "mc.features/a", "mc.entropy/a", "scores/odin",
    "head",
)  # fmt: skip


def test_arrays_are_known_by_their_keys():
    rows = full()
    assert rows.keys() == KEYS
    assert all(type(key) is Key for key in rows.keys())  # noqa: SIM118
    assert all(key in rows and Key.parse(key) in rows for key in KEYS)
    assert "features/b" not in rows
    assert len(rows) == 7
    assert rows.shape("mc.features/a") == (7, 2, 4)
    assert repr(rows) == f"Latents('train', 7 rows, keys: {', '.join(KEYS)})"


def test_arrays_keep_their_dtype_and_statistics_are_made_of_doubles():
    rows = full()
    assert rows["features/a"].dtype == torch.float16
    assert rows["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rows.double("features/a").dtype == torch.float64
    assert [part.dtype for part in rows.head] == [torch.float64] * 2
    assert torch.equal(rows.read("logits", 2, 5), rows["logits"][2:5])


def test_nothing_at_all_is_refused():
    with pytest.raises(
        DataError, match=r"^x: no array was given; give at least one, e\.g\. logits"
    ):
        Latents(name="x")


def test_arrays_of_different_lengths_are_refused_by_name():
    with pytest.raises(DataError) as caught:
        Latents(logits=torch.zeros(3, 2), features={"a": torch.zeros(4, 2)}, name="x")
    assert str(caught.value) == (
        "x: all arrays must have the same number of rows, got logits 3, features/a 4"
    )


def test_a_layer_that_no_key_can_name_is_refused():
    with pytest.raises(ConfigError, match=r"^no array can be called 'features/a/b'; "):
        Latents(features={"a/b": torch.zeros(3, 2)})
    with pytest.raises(
        ConfigError, match=r"^no array can be called 'logit'; did you mean 'logits'"
    ):
        Latents.from_rows({"logit": Counted(3, 2)})


@pytest.mark.parametrize(
    "use",
    [lambda rows, key: rows[key], lambda rows, key: rows.shape(key),
     lambda rows, key: rows.double(key), lambda rows, key: rows.take([key], 0, 1)],
)  # fmt: skip
@pytest.mark.parametrize("key", ["features/b", "logit"])
def test_an_array_that_is_not_there_is_missing(use, key):
    with pytest.raises(MissingInput, match=rf"^no '{key}': train has 'logits', .*did you mean '"):
        use(full(), key)


def test_the_first_missing_array_is_named_with_who_needs_it():
    rows = full()
    rows.require(KEYS, who="one")
    with pytest.raises(MissingInput, match=r"^one: needs 'features/b', but train has 'logits', "):
        rows.require(["logits", "features/b", "features/c"], who="one")
    with pytest.raises(
        MissingInput, match=r"^no 'head': x has 'logits'; re-run extract with head:"
    ):
        Latents(logits=torch.zeros(2, 2), name="x").head  # noqa: B018


def test_some_rows_hold_only_what_was_asked_for_and_know_their_place():
    rows = full()
    part = rows.take(["logits", "head"], 2, 5)
    assert part.keys() == ("logits", "head")
    assert (len(part), part.offset, part.origin, part.name) == (3, 2, rows.origin, "train")
    assert torch.equal(part["logits"], rows["logits"][2:5])
    assert part.take(["logits"], 1, 2).offset == 3
    with pytest.raises(DataError, match="train: no array of rows was asked for"):
        rows.take(["head"], 0, 3)


def test_chunks_cover_all_rows_in_order():
    rows = full()
    chunks = list(rows.chunks(["logits", "logits", "labels"], 3))
    assert [(chunk.offset, len(chunk)) for chunk in chunks] == [(0, 3), (3, 3), (6, 1)]
    assert all(chunk.keys() == ("logits", "labels") for chunk in chunks)
    assert torch.equal(torch.cat([chunk["logits"] for chunk in chunks]), rows["logits"])
    long = Latents.from_rows({"logits": Counted(CHUNK_ROWS + 1, 2)})
    assert [len(chunk) for chunk in long.chunks(["logits"])] == [CHUNK_ROWS, 1]


def test_rows_on_another_device_are_the_same_rows():
    rows = full()
    assert rows.to("cpu") is rows
    moved = rows.to("meta")
    assert (moved.origin, moved.keys(), moved.device) == (rows.origin, KEYS, torch.device("meta"))
    assert moved["logits"].device == moved.head[0].device == torch.device("meta")


def test_rows_without_a_known_origin_are_like_no_others():
    assert full().origin != full().origin
    known = Latents.from_rows({"logits": Counted(3, 2)}, origin="here")
    assert known.origin == "here"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_first_row_that_is_not_finite_is_named_by_its_place_in_the_split(bad, dtype):
    values = torch.zeros(9, 2, dtype=dtype)
    full().require_finite()
    values[[5, 7], 1] = bad
    part = Latents(features={"a": values}, name="x").take(["features/a"], 2, 9)
    with pytest.raises(DataError) as caught:
        part.require_finite()
    assert str(caught.value) == (
        "x: features/a must be finite, got NaN or infinity in row 5; look at that input or at the "
        "model's weights"
    )


def test_a_sum_that_overflows_is_no_row_that_is_not_finite():
    Latents(logits=torch.full((4, 2), 6e4).half()).require_finite()
    Latents(logits=torch.full((4, 2), 3e38)).require_finite()


def test_every_public_name_is_there_and_torch_comes_with_the_first_that_needs_it(repository):
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=r"'latentood\.latents' has no attribute 'Latent'"):
        package.Latent  # noqa: B018
    code = (
        "import sys; from latentood.latents import Key, LOGITS; assert 'torch' not in sys.modules;"
        "from latentood.latents import Latents; assert 'torch' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0
