"""Names that lead from a row of a result back to its image."""

import shutil
from pathlib import Path

import pytest
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import DTD, FakeData, ImageFolder

from latentood.data import Digits, GaussianNoise, HeldOutClasses, Jpeg, PixelPermutation, Rows
from latentood.data.names import names_of
from tests.data.sources import Pictures, image_folder

NAMES = [f"{name}/{i}.png" for name in ("cats", "dogs") for i in range(3)]


@pytest.fixture
def pets(tmp_path):
    return ImageFolder(image_folder(tmp_path / "pets"))


def listing(attribute, values, root=None):
    source = Pictures()
    setattr(source, attribute, values)
    if root is not None:
        source.root = root
    return source


class Alone:
    """A data set of one file."""

    def __init__(self, file):
        self.samples = [(file, 0)]

    def __len__(self):
        return 1


def test_a_folder_of_images_is_named_by_files_below_its_root(pets):
    assert list(names_of(pets)) == NAMES


def test_names_do_not_change_when_a_data_set_moves(pets, tmp_path):
    shutil.move(tmp_path / "pets", tmp_path / "elsewhere")
    assert list(names_of(ImageFolder(tmp_path / "elsewhere"))) == list(names_of(pets))


@pytest.mark.parametrize("attribute", ["_images", "_image_files", "filename", "images"])
@pytest.mark.parametrize("kind", [str, Path])
def test_lists_of_files_name_the_items(attribute, kind):
    files = [kind(f"/data/x/{name}") for name in NAMES]
    assert list(names_of(listing(attribute, files, root="/data/x"))) == NAMES
    assert list(names_of(listing(attribute, files))) == NAMES
    assert list(names_of(listing(attribute, files, root="/elsewhere"))) == NAMES


@pytest.mark.parametrize("attribute", ["samples", "_samples", "imgs"])
def test_files_may_stand_beside_labels(attribute):
    pairs = [(f"/data/{name}", 0) for name in NAMES]
    assert list(names_of(listing(attribute, pairs))) == NAMES


def test_a_torchvision_data_set_without_samples_is_named_by_its_files(tmp_path):
    textures = image_folder(tmp_path / "dtd" / "dtd" / "images", ("banded", "dotted"), each=2)
    labels = tmp_path / "dtd" / "dtd" / "labels"
    labels.mkdir()
    files = sorted(path.relative_to(textures).as_posix() for path in textures.rglob("*.png"))
    (labels / "test1.txt").write_text("\n".join(files))
    data = DTD(str(tmp_path), split="test")
    assert list(names_of(data)) == [f"dtd/dtd/images/{file}" for file in files]
    assert HeldOutClasses(data, ["dotted"]).ids[0] == "dtd/dtd/images/dotted/0.png"


def test_lists_of_anything_else_or_of_another_length_are_no_names():
    for values in (list(range(6)), [f"/x/{i}" for i in range(5)], [((1, 2), 0)] * 6):
        assert list(names_of(listing("images", values))) == ["0", "1", "2", "3", "4", "5"]


def test_files_of_one_folder_and_those_without_a_common_one_keep_what_tells_them_apart():
    assert names_of(listing("images", [f"/a/b/{i}.png" for i in range(6)]))[5] == "5.png"
    assert list(names_of(Alone("/a/b/0.png"))) == ["0.png"]
    mixed = ["/a/0.png", "1.png", "2.png", "3.png", "4.png", "5.png"]
    assert list(names_of(listing("images", mixed))) == mixed
    similar = ["/ab/0.png", "/abc/1.png", "/ab/2.png", "/ab/3.png", "/abc/4.png", "/abc/5.png"]
    assert names_of(listing("images", similar))[1] == "abc/1.png"


def test_own_ids_come_first_and_numbers_last():
    assert names_of(Digits([1])) == Digits([1]).ids
    assert list(names_of(GaussianNoise(3, (1, 2, 2)))) == ["0", "1", "2"]
    assert list(names_of(FakeData(2, (3, 4, 4)))) == ["0", "1"]


def test_wrappers_pass_the_names_on(pets):
    assert list(PixelPermutation(pets).ids) == NAMES
    assert list(Rows(Jpeg(pets), start=4).ids) == NAMES[4:]
    assert list(HeldOutClasses(Rows(pets, start=2), ["cats"]).ids) == ["cats/2.png"]
    assert list(Rows(Pictures(), start=3).ids) == ["3", "4", "5"]
    assert list(Jpeg(pets).ids[1:3]) == NAMES[1:3]


def test_torchs_own_wrappers_pass_the_names_on(pets):
    assert list(names_of(Subset(pets, [5, 0]))) == [NAMES[5], NAMES[0]]
    assert list(names_of(ConcatDataset([pets, Digits([1])]))) == [*NAMES, *Digits([1]).ids]
