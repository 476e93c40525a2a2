"""Data sets in Hugging Face's forms: in memory, saved, and folders of files."""

import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from latentood.data import HeldOutClasses, Jpeg, OnlyClasses, hugging_face
from latentood.data.items import labels_of, split_item
from latentood.data.names import names_of
from latentood.errors import ConfigError, UnknownName
from latentood.extraction.run.inputs import open_inputs
from latentood.pipeline.schema import Target, parse_pipeline
from latentood.pipeline.targets import build
from tests.data.sources import COLOURS, LABELS, as_tensor, image_folder

datasets = pytest.importorskip("datasets", reason="the extra [hf] is not installed")


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def in_memory(image="image", label="label"):
    photos = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in COLOURS]
    kinds = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=["ant", "bee", "cat"])}
    )
    return datasets.Dataset.from_dict({image: photos, label: LABELS}, features=kinds)


def test_items_are_split_and_classes_known_by_name():
    data = in_memory()
    image, label = split_item(data[4], None, None)
    assert torch.equal(as_tensor(image), COLOURS[4])
    assert label == 1
    assert labels_of(data) == LABELS
    assert OnlyClasses(data, ["cat", "ant"]).labels == [1, 0, 1, 0]
    assert torch.equal(as_tensor(HeldOutClasses(data, ["bee"])[1]), COLOURS[4])


def test_labels_are_read_from_their_column():
    class Undecoded(type(in_memory())):
        reads = 0

        def __getitem__(self, key):
            if isinstance(key, int):
                type(self).reads += 1
            return super().__getitem__(key)

    data = in_memory().select(list(range(6)) * 50)
    data.__class__ = Undecoded
    assert labels_of(data) == LABELS * 50
    assert Undecoded.reads <= 9


def test_fields_of_other_names_are_named(tmp_path):
    data = in_memory("photo", "animal")
    assert split_item(data[1], "photo", "animal")[1] == 1
    data.save_to_disk(tmp_path / "saved")
    saved = {
        "target": "latentood.data.hugging_face",
        "args": {"folder": str(tmp_path / "saved")},
    }
    pairs = {
        "target": "latentood.data.Fields",
        "args": {"source": saved, "input": "photo", "label": "animal"},
    }
    held_out = {"source": pairs, "classes": ["bee"]}
    bees = build(Target(target="latentood.data.HeldOutClasses", args=held_out))
    assert [torch.equal(as_tensor(bee), COLOURS[i]) for bee, i in zip(bees, (1, 4), strict=True)]


def test_a_folder_of_images_is_named_by_its_files(tmp_path):
    data = hugging_face("train", folder=str(image_folder(tmp_path / "pets")))
    names = [f"{name}/{i}.png" for name in ("cats", "dogs") for i in range(3)]
    assert list(names_of(data)) == names
    assert list(names_of(data.select([5, 0]))) == [names[5], names[0]]
    assert list(OnlyClasses(Jpeg(data), ["dogs"]).ids) == names[3:]


def test_images_without_files_or_with_equal_names_have_numbers(tmp_path):
    assert list(names_of(in_memory())) == ["0", "1", "2", "3", "4", "5"]
    data = hugging_face("train", folder=str(image_folder(tmp_path / "pets")))
    data.save_to_disk(tmp_path / "saved")  # keeps but the last part of a path: 0.png twice
    assert list(names_of(hugging_face(folder=str(tmp_path / "saved")))) == list("012345")


def test_names_are_read_without_decoding_or_writing_anything(tmp_path):
    in_memory().save_to_disk(tmp_path / "saved")
    before = sorted(tmp_path.rglob("*"))
    data = hugging_face(folder=str(tmp_path / "saved"))
    names_of(data)
    assert sorted(tmp_path.rglob("*")) == before


def test_saved_splits_are_opened_by_name(tmp_path):
    folder = str(tmp_path / "saved")
    datasets.DatasetDict(train=in_memory(), test=in_memory().select([2])).save_to_disk(folder)
    assert len(hugging_face("test", folder=folder)) == 1
    with pytest.raises(UnknownName, match=r"no split of .*saved named 'tset'; did you mean 'test'"):
        hugging_face("tset", folder=folder)
    with pytest.raises(ConfigError, match="has the splits train, test, got none; set split"):
        hugging_face(folder=folder)


def test_splits_of_a_folder_are_named_too(tmp_path):
    folder = str(image_folder(tmp_path / "pets"))
    assert len(hugging_face("train[:2]", folder=folder)) == 2
    with pytest.raises(ConfigError, match="has the splits train, got none; set split"):
        hugging_face(folder=folder)
    args = {"split": "tset", "folder": folder}
    with pytest.raises(ConfigError, match=r"hugging_face\(.*Unknown split .tset"):
        build(Target(target="latentood.data.hugging_face", args=args))


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the package 'datasets' of the extra \[hf\]"):
        hugging_face("test", name="x")


@pytest.mark.parametrize("names", [("image", "label"), ("photo", "animal")])
def test_a_split_reads_the_fields_that_it_names(tmp_path, names):
    in_memory(*names).save_to_disk(tmp_path / "saved")
    split = {
        "role": "id",
        "target": "latentood.data.hugging_face",
        "args": {"folder": str(tmp_path / "saved")},
        "transform": {"target": "torchvision.transforms.v2.PILToTensor"},
    }
    if names != ("image", "label"):
        split |= dict(zip(("input", "label"), names, strict=True))
    raw = {"name": "x", "model": {"target": "unused"}, "splits": {"test": split}}
    rows = replace(open_inputs(parse_pipeline(raw), "test", limit=None), classes=3)
    assert [label for _, label in rows] == LABELS
    assert torch.equal(rows[4][0], COLOURS[4])
    assert rows.ids() == ["0", "1", "2", "3", "4", "5"]
