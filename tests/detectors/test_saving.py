import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latentood import files
from latentood.detectors import fitted as saving
from latentood.detectors.fitted import Fitted, fit, load
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, StoreError, UnknownName


@pytest.fixture
def fitted(blobs) -> Fitted:
    return fit(detector("knn", k=7, share=0.5), blobs.train.latents())


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "knn.safetensors")
    return tmp_path / "knn.safetensors"


def rewrite(path, **changes):
    """Write the same arrays under a changed header."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["latentood"])
    header |= changes
    state = changes.pop("state", state)
    header.pop("state", None)
    save_file(state, path, metadata={"latentood": json.dumps(header)})


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
    assert header["schema"] == saving.SCHEMA


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
    with pytest.raises(StoreError, match=r"schema must be ≤ 1, got 2; upgrade latentood, or fit"):
        load(path)


def test_a_header_without_its_parts_is_refused(path):
    rewrite(path, hyperparameters=None, origin=3)
    with pytest.raises(StoreError, match="got a header without hyperparameters, origin; "):
        load(path)


def test_arrays_of_another_shape_are_refused(path):
    rewrite(path, shapes={"bank": [1, 1]})
    with pytest.raises(StoreError, match="arrays that are not those it was written with"):
        load(path)


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
