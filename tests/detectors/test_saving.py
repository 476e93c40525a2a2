import json
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentood import files
from latentood.detectors import fitted_file as saving
from latentood.detectors.fitted import Fitted, fit, load
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, StoreError, UnknownName
from latentood.latents import Latents
from latentood.sealed import digest as digest_of

REFUSED = (DetectorError, StoreError, UnknownName)


@pytest.fixture
def fitted(blobs) -> Fitted:
    return fit(detector("knn", k=7, share=0.5), blobs.train.latents())


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "knn.safetensors")
    return tmp_path / "knn.safetensors"


def parts_of(path):
    """Read the header and the arrays of a file."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["latentood"]), state


def rewrite(path, *, text=None, state=None, sealed=True, **changes):
    """Write changed arrays and header with the digest they had or, sealed, with their own."""
    header, arrays = parts_of(path)
    with safe_open(path, framework="pt") as file:
        digest = file.metadata()["digest"]
    state = arrays if state is None else state
    text = json.dumps(header | changes) if text is None else text
    if sealed:
        digest = digest_of(state, text)
    save_file(state, path, metadata={"latentood": text, "digest": digest})


def test_everything_comes_back(fitted, path):
    again = load(path)
    assert again.detector == fitted.detector
    assert again.widths == fitted.widths
    assert again.origin == fitted.origin
    assert again.provenance == fitted.provenance
    assert list(again.state) == sorted(fitted.state)
    assert all(torch.equal(again.state[name], fitted.state[name]) for name in fitted.state)


def test_a_loaded_bank_still_knows_its_own_rows(blobs, tmp_path):
    train = blobs.train.latents()
    fitted = fit(detector("knn", k=1), train)
    fitted.save(tmp_path / "a")
    assert torch.equal(load(tmp_path / "a").score(train), fitted.score(train))
    assert fitted.score(train).min() > 0


def test_the_file_can_be_read_with_safetensors_alone(path):
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["latentood"])
        assert file.get_tensor("bank").shape == (120, 16)
    assert header["detector"] == "knn"
    assert header["hyperparameters"]["k"] == 7
    assert header["schema"] == 2  # which older versions read: there is no head in it


def test_a_second_save_replaces_the_first_and_leaves_nothing_else(fitted, path):
    fitted.save(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["knn.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(fitted, path, monkeypatch):
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(StoreError, match=r"got disk full; choose another path$"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_does_not_exist_is_a_named_error(fitted, tmp_path):
    with pytest.raises(StoreError, match=r"must be in a folder that can be written, got .*; "):
        fitted.save(tmp_path / "missing" / "a.safetensors")


def test_a_missing_file_is_a_named_error(tmp_path):
    with pytest.raises(
        StoreError, match=r"must be a file that Fitted\.save wrote, but there is none"
    ):
        load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 200, -1])
def test_a_truncated_file_is_a_named_error(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreError, match=r"wrote, got a file that cannot be read .*; fit and save"):
        load(path)


def test_a_changed_byte_is_a_named_error(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="arrays that are not those it was written with"):
        load(path)


def test_other_safetensors_files_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "weights")
    with pytest.raises(StoreError, match="got a safetensors file of something else"):
        load(tmp_path / "weights")


def test_a_pickle_is_refused_unread(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.pt")
    with pytest.raises(StoreError, match="got a file that cannot be read"):
        load(tmp_path / "model.pt")


def test_a_newer_schema_asks_for_an_upgrade(path):
    rewrite(path, schema=saving.SCHEMA + 1)
    with pytest.raises(StoreError, match=r"schema must be ≤ 3, got 4; upgrade latentood, or fit"):
        load(path)


def test_a_header_without_its_parts_is_refused(path):
    rewrite(path, hyperparameters=None, origin=3)
    with pytest.raises(StoreError, match="got a header without hyperparameters, origin; "):
        load(path)


def test_arrays_of_another_shape_are_refused(path):
    rewrite(path, arrays={"bank": ["torch.float32", [1, 1]]})
    with pytest.raises(StoreError, match="arrays that are not those it was written with"):
        load(path)


def test_no_changed_byte_goes_unnoticed(blobs, tmp_path):
    path = tmp_path / "knn.safetensors"
    fit(detector("knn", k=7, share=0.05), blobs.train.latents()).save(path)
    whole = path.read_bytes()
    draw = random.Random(0)
    accepted = []
    for _ in range(400):
        place, change = draw.randrange(len(whole)), draw.randrange(1, 256)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        with suppress(*REFUSED):
            load(path)
            accepted.append((place, change))
    assert accepted == []
    path.write_bytes(whole)
    load(path)


def _swap(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def _instead(path, make):
    path.unlink()
    make(path)


def _nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def _renamed(path):
    _, state = parts_of(path)
    rewrite(path, state={f"{name}_": array for name, array in state.items()}, sealed=False)


def _renamed_throughout(path):
    header, state = parts_of(path)
    other = {f"{name}_": array for name, array in state.items()}
    rewrite(path, state=other, arrays={f"{name}_": a for name, a in header["arrays"].items()})


def _other_type(path):
    _, state = parts_of(path)
    rewrite(path, state=state | {"bank": state["bank"].view(torch.int32)}, sealed=False)


EDITS = {
    "no header": lambda path: save_file({"bank": torch.zeros(2)}, path),
    "another k": lambda path: _swap(path, rb"\"k\": 7", rb"\"k\": 8"),
    "another origin": lambda path: rewrite(path, origin="elsewhere", sealed=False),
    "other names": _renamed,
    "other names throughout": _renamed_throughout,
    "another type": _other_type,
    "widths of text": lambda path: rewrite(path, widths={"features/penultimate": "16"}),
    "widths below 1": lambda path: rewrite(path, widths={"features/penultimate": [0]}),
    "widths of truth values": lambda path: rewrite(path, widths={"features/penultimate": [True]}),
    "widths of another array": lambda path: rewrite(path, widths={"logits": [4]}),
    "a list as provenance": lambda path: rewrite(path, provenance=[]),
    "a schema that is true": lambda path: rewrite(path, schema=True),
    "a dotted detector": lambda path: rewrite(path, detector="os.system"),
    "a hyperparameter of another": lambda path: rewrite(path, hyperparameters={"ridge": 0.1}),
    "a hyperparameter called name": lambda path: rewrite(path, hyperparameters={"name": "knn"}),
    "a hyperparameter called self": lambda path: rewrite(path, hyperparameters={"self": 1}),
    "a huge length": lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f" + path.read_bytes()[8:]),
    "a huge header": lambda path: rewrite(path, text=" " * (17 << 20) + "{}"),
    "deep JSON": lambda path: rewrite(path, text="[" * 100_000 + "]" * 100_000),
    "deep hyperparameters": lambda path: rewrite(path, hyperparameters={"k": _nested(900)}),
    "no JSON": lambda path: rewrite(path, text="{"),
    "no bytes": lambda path: path.write_bytes(b""),
    "half the bytes": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "a folder": lambda path: _instead(path, Path.mkdir),
    "a FIFO": lambda path: _instead(path, os.mkfifo),
    "a link to nothing": lambda path: _instead(path, lambda p: p.symlink_to("nothing")),
    "a link to a device": lambda path: _instead(path, lambda p: p.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_file_is_refused(edit, path):
    edit(path)
    with pytest.raises(REFUSED) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_link_to_a_file_is_the_file(fitted, path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    assert load(tmp_path / "link").provenance == fitted.provenance


def test_a_file_of_the_first_schema_is_still_read(blobs, fitted, path):
    header, state = parts_of(path)
    shapes = {name: list(array.shape) for name, array in state.items()}
    del header["arrays"]
    first = header | {"schema": 1, "shapes": shapes, "digest": digest_of(state)}
    save_file(state, path, metadata={"latentood": json.dumps(first)})
    rows = blobs.far.latents()
    assert torch.equal(load(path).score(rows), fitted.score(rows))
    state["bank"][0, 0] += 1
    save_file(state, path, metadata={"latentood": json.dumps(first)})
    with pytest.raises(StoreError, match="arrays that are not those it was written with"):
        load(path)


def test_a_file_that_version_0_1_wrote_scores_as_it_did_there():
    """A fusion whose members have other defaults since; with its rows, both made by 0.1.0."""
    golden = Path(__file__).with_name("golden")
    fitted = load(golden / "fusion_schema1.safetensors")
    assert fitted.detector.members == (
        "ssd:normalise=false",
        "neco:max_logit=true",
        "openmax:tail=5:alpha=3",
    )
    rows = load_file(golden / "fusion_scores.safetensors")
    latents = Latents(features={"penultimate": rows["features"]}, logits=rows["logits"])
    torch.testing.assert_close(fitted.score(latents), rows["scores"], rtol=1e-12, atol=1e-12)


def test_an_unknown_detector_names_the_nearest(path):
    rewrite(path, detector="knm")
    with pytest.raises(UnknownName, match="no detector named 'knm'; did you mean 'knn'"):
        load(path)


def test_a_dotted_target_is_never_imported(path):
    rewrite(path, detector="os.system")
    with pytest.raises(StoreError, match=r"got 'os\.system'; dotted names are never imported"):
        load(path)


def test_hyperparameters_are_checked_again(path):
    rewrite(path, hyperparameters={"k": 0})
    with pytest.raises(DetectorError, match="knn: k must be ≥ 1, got 0"):
        load(path)


def test_arrays_that_share_memory_are_saved_each_by_itself(fitted, tmp_path):
    bank = fitted.state["bank"]
    shared = Fitted(fitted.detector, fitted.state | {"half": bank[:3], "turned": bank.T})
    shared.save(tmp_path / "shared")
    again = load(tmp_path / "shared")
    assert torch.equal(again.state["half"], bank[:3])
    assert torch.equal(again.state["turned"], bank.T)
