import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latentood.detectors.fitted import fit, load
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 1},
        {"groups": 7, "kept": 0.5, "seed": 3},
        {"kept": 1.0, "temperature": 0.5},
        {"kept": 0.1, "quantile": 0.0},
        {"kept": 1e-9},
    ],
)
def test_options_agree_with_the_slow_formula(blobs, texts, options):
    assert_agrees(blobs, "neglabel", texts=texts, **options)


def test_an_npy_file_gives_the_same_bits(blobs, texts, tmp_path):
    arrays = load_file(texts)
    np.save(tmp_path / "texts.npy", torch.cat([arrays["id"], arrays["negative"]]).numpy())
    one = fit(detector("neglabel", texts=texts), blobs.train.latents())
    other = detector("neglabel", texts=str(tmp_path / "texts.npy"), id_labels=4)
    two = fit(other, blobs.train.latents())
    assert torch.equal(one.score(blobs.far.latents()), two.score(blobs.far.latents()))


def test_a_saved_detector_needs_the_file_no_more(blobs, texts, tmp_path):
    copy = tmp_path / "texts.safetensors"
    save_file(load_file(texts), copy)
    fitted = fit(detector("neglabel", texts=str(copy)), blobs.train.latents())
    fitted.save(tmp_path / "fitted.safetensors")
    copy.unlink()
    again = load(tmp_path / "fitted.safetensors")
    assert torch.equal(again.score(blobs.far.latents()), fitted.score(blobs.far.latents()))


def test_words_like_id_labels_are_not_taken_for_negative_ones(tmp_path):
    words = torch.cat([torch.eye(4)[:2] + 0.01, torch.eye(4)[2:]])  # two like a label, two not
    save_file({"id": torch.eye(4)[:2], "negative": words}, tmp_path / "t.safetensors")
    train = Latents(features={"penultimate": torch.eye(4)})
    path = str(tmp_path / "t.safetensors")
    fitted = fit(detector("neglabel", texts=path, kept=0.5, quantile=1.0, groups=1), train)
    assert fitted.provenance["diagnostics"] == {
        "id_labels": 2, "negative_labels": 2, "groups": 1,
    }  # fmt: skip
    assert {int(row.argmax()) for row in fitted.state["negative"][0]} == {2, 3}


def test_labels_that_fill_no_group_are_dropped(blobs, texts):
    fitted = fit(detector("neglabel", texts=texts, kept=0.5, groups=30), blobs.train.latents())
    assert fitted.provenance["diagnostics"] == {
        "id_labels": 4, "negative_labels": 180, "groups": 30,
    }  # fmt: skip


def test_without_a_file_there_is_nothing_to_compare_with(blobs):
    with pytest.raises(MissingInput) as caught:
        fit(detector("neglabel"), blobs.train.latents())
    assert caught.value.args[0] == (
        "neglabel: needs embeddings of texts, but no file is named; set texts to a safetensors "
        "file with arrays 'id' and 'negative'"
    )


WIDE, GOOD = torch.ones(3, 9), torch.ones(3, 16)


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("none.safetensors", None, "FileNotFoundError: "),
        ("none.npy", None, "FileNotFoundError: "),
        ("a.safetensors", {"id": GOOD}, "KeyError: 'negative'"),
        ("b.safetensors", {"id": GOOD, "negative": WIDE}, r"\(3, 9\) for features of width 16"),
        ("c.safetensors", {"id": GOOD[:0], "negative": GOOD}, r"\(0, 16\) for features of width"),
        ("d.safetensors", {"id": GOOD.log(), "negative": GOOD / 0}, r"torch\.float32 that are not"),
        ("e.safetensors", {"id": GOOD, "negative": GOOD.int()}, r"torch\.int32 that are not all"),
        ("f.npy", GOOD.numpy(), r"\(0, 16\) for features of width 16"),
        ("g.npy", np.array([{"a": 1}], dtype=object), "ValueError: Object arrays cannot be loaded"),
        ("h.safetensors", b"text", "SafetensorError: "),
    ],
)
def test_a_file_of_something_else_is_refused(blobs, tmp_path, name, content, got):
    path = tmp_path / name
    if isinstance(content, dict):
        save_file(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    pattern = r"^neglabel: texts must be a safetensors file .* got " + got + r".* in .*; embed the"
    with pytest.raises(DetectorError, match=pattern):
        fit(detector("neglabel", texts=str(path)), blobs.train.latents())
