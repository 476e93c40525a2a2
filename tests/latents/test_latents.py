"""Named arrays of rows: what they hold, what they give, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import latentood.latents as package
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import ConfigError, DataError, MissingInput
from latentood.latents import CHUNK_ROWS, Key, Latents
from latentood.stats.entropy import kl_entropy
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


def small(**changes):
    """Arrays that fit each other, but for what is changed."""
    given = {
        "logits": torch.zeros(4, 3),
        "features": {"a": torch.ones(4, 2)},
        "head": (torch.ones(3, 2), torch.zeros(3)),
        "name": "x",
    }
    return Latents(**given | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"a": torch.ones(4, 0)}}, r"features/a must be \(N, D\), each row with ≥ 1 "),
        ({"logits": torch.ones(4, 0), "head": None}, r"logits must be \(N, C\), .* got \(4, 0\); "),
        (
            {"labels": torch.tensor(3)},
            r"labels must be \(N,\), each row with ≥ 1 number, got \(\);",
        ),
        (
            {"features": {"a": torch.ones(4, 2).cfloat()}},
            r"must hold real .*got torch\.complex64; ",
        ),
        ({"features": {"a": torch.ones(4, 2) > 0}}, r"must hold real .*, got torch\.bool; convert"),
        ({"labels": np.array(["cat", "dog", "cat", "dog"])}, "labels must be an array of real num"),
        ({"features": {"a": np.array([[{}], [1], [2], [3]])}}, "real numbers, got ndarray"),
        ({"mc_logits": torch.zeros(4, 5, 2)}, "same number of classes, got logits 3, mc.logits 2"),
        (
            {"head": (torch.ones(2, 2), torch.ones(2))},
            "must have the 3 classes of the logits, got 2",
        ),
        (
            {"head": (torch.ones(3, 2), torch.ones(2))},
            r"bias \(C,\), got \(3, 2\) and \(2,\); give",
        ),
        (
            {"head": (torch.ones(3), torch.ones(3))},
            r"a weight \(C, D\) and a bias .* got \(3,\) and",
        ),
        (
            {"head": (torch.ones(3, 0), torch.ones(3))},
            r"got \(3, 0\) and \(3,\); give those of the",
        ),
        (
            {"head": (torch.tensor([[1.0], [2.0], [np.nan]]), torch.zeros(3))},
            "weight of the head must be finite, got NaN or infinity for class 2; look at the model",
        ),
        (
            {"head": (torch.ones(3, 2), torch.tensor([0.0, np.inf, 0.0]))},
            "the bias of the head must be finite, got NaN or infinity for class 1",
        ),
    ],
)
def test_arrays_that_cannot_be_are_refused_at_once(changes, message):
    with pytest.raises(DataError, match=rf"^x: .*{message}"):
        small(**changes)


@pytest.mark.parametrize(
    "hashes",
    [torch.zeros(4), torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, dtype=torch.int32)],
    ids=str,
)
def test_hashes_must_be_one_number_of_64_bits_for_each_row(hashes):
    with pytest.raises(DataError, match=r"^mine: hashes must be \(N,\) int64, a digest of each"):
        Latents(logits=torch.zeros(4, 3), hashes=hashes, name="mine")
    latents = Latents(hashes=torch.arange(4), name="mine")
    assert latents.keys() == ("hashes",)
    with pytest.raises(DataError, match="same number of rows, got logits 3, hashes 4"):
        Latents(logits=torch.zeros(3, 3), hashes=torch.arange(4))


def test_what_was_checked_is_not_checked_again(monkeypatch):
    rows = small()
    monkeypatch.setattr("latentood.latents.latents.check_shapes", None)
    assert len(next(rows.to("meta").chunks(["logits", "head"], 2))) == 2


@pytest.mark.parametrize(("value", "bad"), [(1e150, False), (1.1e150, True), (-1e200, True)])
def test_numbers_whose_squares_overflow_are_named_by_their_row(value, bad):
    values = torch.zeros(6, 2, dtype=torch.float64)
    values[4, 1] = value
    rows = Latents(features={"a": values}, name="x")
    if not bad:
        rows.require_finite()
        return
    with pytest.raises(DataError) as caught:
        rows.require_finite()
    assert str(caught.value) == (
        f"x: features/a must be within ±1e+150, whose square float64 can hold, got {abs(value):g} "
        "in row 4; look at that input or at the model's weights"
    )


def test_entropies_follow_from_the_features_of_passes():
    passes = torch.randn(9, 5, 4)
    rows = Latents(mc_features={"a": passes})
    assert rows.keys() == ("mc.features/a", "mc.entropy/a")
    assert rows.shape("mc.entropy/a") == (9, 4)
    assert torch.equal(rows["mc.entropy/a"], kl_entropy(passes).float())
    assert torch.equal(rows.read("mc.entropy/a", 2, 5), rows["mc.entropy/a"][2:5])
    lazy = Latents.from_rows({"mc.features/a": Counted(3, 4)})
    assert "mc.entropy/a" not in lazy  # of two axes: not the features of passes


def test_entropies_that_are_given_stay_and_a_single_pass_has_none():
    given = torch.zeros(9, 4)
    rows = Latents(mc_features={"a": torch.randn(9, 5, 4)}, mc_entropy={"a": given})
    assert torch.equal(rows["mc.entropy/a"], given)
    assert "mc.entropy/a" not in Latents(mc_features={"a": torch.randn(9, 1, 4)})


def test_larem_needs_the_features_of_passes_alone():
    draw = torch.Generator().manual_seed(0)
    train, far = (
        Latents(mc_features={"a": scale * torch.randn(60, 8, 3, generator=draw)})
        for scale in (1, 9)
    )
    fitted = fit(detector("larem", layer="a"), train)
    assert fitted.score(far).min() > fitted.score(train).mean()
