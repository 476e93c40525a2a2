"""Images with masks or boxes in files."""

import numpy as np
import pytest
import torch
from PIL import Image

from latentood.data import ImageMasks, VocBoxes
from latentood.data.names import names_of
from latentood.data.targets import Boxes, Masks
from latentood.errors import ConfigError, DataError, UnknownName

MASK = np.array([[0, 1, 2], [2, 9, 11]], dtype=np.uint8)
RELABEL = {9: 254, 11: 255}


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def street(tmp_path):
    for number, stem in enumerate(("b", "a")):
        save(tmp_path / f"images/{stem}.bmp", np.full((2, 3, 3), 100 * number, np.uint8))
        save(tmp_path / f"masks/{stem}.png", MASK)
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path


def test_an_image_is_read_with_the_mask_of_the_same_name(street):
    data = ImageMasks(street)
    assert (len(data), names_of(data)) == (2, ["a.bmp", "b.bmp"])
    image, mask = data[0]
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (100, 100, 100))
    assert mask.dtype == torch.int64
    assert torch.equal(mask, torch.from_numpy(MASK).long())
    assert data[1][0].getpixel((0, 0)) == (0, 0, 0)


def test_values_are_relabelled_so_that_held_out_classes_are_unknown(street):
    image, mask = ImageMasks(street, relabel=RELABEL, classes=3)[0]
    assert mask.tolist() == [[0, 1, 2], [2, 254, 255]]
    ignored = ImageMasks(street, relabel={"9": 255, "11": 255})[0][1]
    assert Masks(255).read(ignored, image, 3).tolist() == [[0, 1, 2], [2, 255, 255]]


def test_values_are_exchanged_at_once(street):
    assert ImageMasks(street, relabel={1: 2, 2: 1})[0][1].tolist() == [[0, 2, 1], [1, 9, 11]]


@pytest.mark.parametrize("kind", ["palette", "sixteen bits", "grey image"])
def test_masks_of_every_kind_are_read_as_numbers(street, kind):
    mask = Image.fromarray(MASK)
    if kind == "palette":
        mask = mask.convert("P")
        mask.putdata(MASK.ravel().tolist())
        mask.putpalette([200, 100, 50] * 256)
    if kind == "sixteen bits":
        mask = Image.fromarray(MASK.astype(np.uint16))
    mask.save(street / "masks/a.png")
    save(street / "images/a.bmp", np.zeros((2, 3), np.uint8))
    image, read = ImageMasks(street)[0]
    assert image.mode == "RGB"
    assert read.tolist() == MASK.tolist()


def test_a_value_that_nobody_declared_is_refused_with_its_file(street):
    data = ImageMasks(street, relabel={9: 254}, classes=3)
    message = r"ImageMasks: values of .*a\.png must be from 0 to 2 or .* \[254\], got 11; add it"
    with pytest.raises(DataError, match=message):
        data[0]


def test_a_mask_in_colours_is_refused(street):
    save(street / "masks/a.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png must have one channel .* got shape \(2, 3, 3\)"):
        ImageMasks(street)[0]


def test_images_and_masks_that_stand_alone_are_refused(street):
    (street / "masks/a.png").rename(street / "masks/aa.png")
    with pytest.raises(DataError, match=r"a\.bmp must have a mask .* in .*masks, got none; did yo"):
        ImageMasks(street)
    save(street / "masks/a.png", MASK)
    with pytest.raises(DataError, match=r"aa\.png must have an image .* in .*images, got none"):
        ImageMasks(street)


def test_folders_that_are_missing_or_empty_are_refused(street):
    with pytest.raises(DataError, match=r"ImageMasks: there must be a folder .*val, got none"):
        ImageMasks(street, "val")
    (street / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty must hold images \(\.bmp, .*\), got none; corr"):
        ImageMasks(street, masks="empty")


@pytest.mark.parametrize("relabel", [{-1: 0}, {0: 65536}])
def test_relabelled_values_that_no_mask_holds_are_refused(street, relabel):
    with pytest.raises(ConfigError, match=r"relabel must be from 0 to 65535, got (-1|65536); 255"):
        ImageMasks(street, relabel=relabel)


CELLS = {"RBC": 1, "WBC": 2, "Platelets": 254}
OBJECT = "<object><name> {} </name><bndbox>{}</bndbox></object>"


def annotate(root, stem, *objects):
    """Write an annotation of (class, xmin, ymin, xmax, ymax) each, and its image."""
    described = []
    for name, *corners in objects:
        ends = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
        described.append(OBJECT.format(name, "".join(f"<{k}>{v}</{k}>" for k, v in ends)))
    path = root / f"Annotations/{stem}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation><filename>x</filename>{''.join(described)}</annotation>")
    save(root / f"JPEGImages/{stem}.jpg", np.zeros((48, 64), np.uint8))


@pytest.fixture
def blood(tmp_path):
    annotate(tmp_path, "one", ("RBC", 1, 1, 10, 20), ("WBC", "3.5", 5, 64, 48))
    annotate(tmp_path, "two", ("Platelets", 2, 2, 4, 4), ("RBC", 7, 7, 7, 7))
    annotate(tmp_path, "none")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("two  1\none -1\n\n")
    return tmp_path


def test_boxes_hold_the_first_and_the_last_pixel_of_an_object(blood):
    image, target = VocBoxes(blood, CELLS, "train")[1]
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert target["boxes"].tolist() == [[0, 0, 10, 20], [2.5, 4, 64, 48]]
    assert target["labels"].tolist() == [1, 2]
    read = Boxes().read(target, image, 3)
    assert all(torch.equal(read[key], value) for key, value in target.items())


def test_rows_are_those_of_a_split_in_its_order_or_all(blood):
    assert names_of(VocBoxes(blood, CELLS, "train")) == ["two.jpg", "one.jpg"]
    assert names_of(VocBoxes(blood, CELLS)) == ["none.jpg", "one.jpg", "two.jpg"]


def test_an_image_without_objects_has_no_boxes(blood):
    target = VocBoxes(blood, CELLS)[0][1]
    assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))
    assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)


def test_classes_are_unknown_or_dropped_or_their_images_left_out(blood):
    assert VocBoxes(blood, CELLS, "train")[0][1]["labels"].tolist() == [254, 1]
    dropped = VocBoxes(blood, {**CELLS, "Platelets": None}, "train")[0][1]
    assert dropped["labels"].tolist() == [1]
    assert dropped["boxes"].tolist() == [[6, 6, 7, 7]]
    assert VocBoxes(blood, CELLS, without=["Platelets"]).ids == ["none.jpg", "one.jpg"]


def test_objects_that_are_erased_are_painted_over_with_what_they_hide(blood):
    annotate(
        blood, "one", ("WBC", 11, 11, 20, 20), ("RBC", 1, 11, 20, 20), ("RBC", 12, 12, 21, 15),
        ("Platelets", 30, 30, 40, 40),
    )  # fmt: skip
    pixels = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    pixels[10:20, 10:20] = 255
    Image.fromarray(pixels).save(blood / "JPEGImages/one.png")
    (blood / "JPEGImages/one.jpg").unlink()
    image, target = VocBoxes(blood, CELLS, "train", erased=["WBC"])[1]
    assert np.array_equal(np.unique(np.asarray(image).reshape(-1, 3), axis=0), [[10, 20, 30]])
    # half of the first red cell is painted over, and more of the second
    assert target["boxes"].tolist() == [[0, 10, 20, 20], [29, 29, 40, 40]]
    assert target["labels"].tolist() == [1, 254]
    image, target = VocBoxes(blood, CELLS, "train")[1]
    assert np.array_equal(np.asarray(image), pixels)
    assert target["labels"].tolist() == [2, 1, 1, 254]


def test_a_target_that_is_changed_does_not_change_the_data_set(blood):
    data = VocBoxes(blood, CELLS, "train")
    data[0][1]["labels"][:] = 7
    assert data[0][1]["labels"].tolist() == [254, 1]


def test_a_class_that_nobody_declared_is_refused(blood):
    message = r"VocBoxes: classes must be named in labels, got 'Platelets' in .*two\.xml; give it"
    with pytest.raises(DataError, match=message):
        VocBoxes(blood, {"RBC": 1, "WBC": 2})
    with pytest.raises(UnknownName, match="no class of VocBoxes named 'platelets'; did you mean"):
        VocBoxes(blood, CELLS, without=["platelets"])
    with pytest.raises(UnknownName, match="no class of VocBoxes named 'wbc'; known: 'Platelets'"):
        VocBoxes(blood, CELLS, erased=["wbc"])


@pytest.mark.parametrize("corners", [(9, 1, 8, 5), (1, 9, 5, 8), ("nan", 1, 5, 5), (9, 1, 7, 5)])
def test_a_box_without_area_is_refused_with_its_place(blood, corners):
    annotate(blood, "two", ("RBC", 1, 1, 5, 5), ("WBC", *corners))
    with pytest.raises(DataError, match=r"xmin ≤ xmax .* for object 2 of .*two\.xml, a WBC; corr"):
        VocBoxes(blood, CELLS)


def test_files_that_are_missing_or_damaged_are_named(blood):
    with pytest.raises(DataError, match=r"'trian' must have a list .*trian\.txt, got none; did yo"):
        VocBoxes(blood, CELLS, "trian")
    (blood / "JPEGImages/two.jpg").unlink()
    with pytest.raises(DataError, match=r"two\.xml must have an image .* in .*JPEGImages, got n"):
        VocBoxes(blood, CELLS)
    annotate(blood, "two", ("RBC", 1, 1, 5))
    with pytest.raises(DataError, match=r"two\.xml .* \(an object has no bndbox/ymax\); correct"):
        VocBoxes(blood, CELLS)
    (blood / "Annotations/two.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"two\.xml must be an annotation .* \(no element found"):
        VocBoxes(blood, CELLS)
    (blood / "Annotations/two.xml").unlink()
    with pytest.raises(DataError, match=r"two\.xml must be an annotation .* cannot be read \(.*No"):
        VocBoxes(blood, CELLS, "train")


def test_no_image_left_is_refused(blood):
    with pytest.raises(
        DataError, match=r"some image of .* must be left, got none; check split and"
    ):
        VocBoxes(blood, CELLS, "train", without=["RBC"])
