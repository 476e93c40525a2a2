"""Targets: what is read and refused, and how transforms move them with their images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import ToTensor, v2

from latentood.data.targets import CLASS_NUMBERS, Boxes, Masks, TargetError, lists

MASK = torch.tensor([[0, 1, 2], [2, 255, 0]])
IMAGE = torch.arange(3 * 2 * 3).reshape(3, 2, 3).float()


class Steps:
    def __init__(self, *steps):
        self.steps = steps


def boxes(*rows, labels=None):
    return {"boxes": torch.tensor(rows), "labels": torch.tensor(labels or [1] * len(rows))}


@pytest.mark.parametrize(
    "given",
    [
        MASK,
        MASK.byte(),
        MASK.numpy().astype(np.uint16),
        Image.fromarray(MASK.numpy().astype(np.uint8)),
        Image.fromarray(MASK.numpy().astype(np.uint8)).convert("I"),
        tv_tensors.Mask(MASK),
    ],
    ids=["int64", "uint8", "array", "image", "image of int32", "tv_tensor"],
)
def test_a_mask_is_read_as_whole_numbers(given):
    read = Masks(255).read(given, IMAGE, 3)
    assert type(read) is torch.Tensor
    assert read.dtype == torch.int64
    assert read.equal(MASK)


@pytest.mark.parametrize(
    ("mask", "image", "message"),
    [
        (MASK.float(), IMAGE, r"must be \(H, W\) whole numbers.*\(2, 3\) float32"),
        (MASK[None], IMAGE, r"\(1, 2, 3\) int64"),
        (Image.new("RGB", (3, 2)), IMAGE, r"\(2, 3, 3\) uint8"),
        (-1, IMAGE, "whole numbers.*int"),
        (MASK, torch.zeros(3, 4, 3), r"size of its image, \(4, 3\).*\(2, 3\)"),
        (MASK, Image.new("RGB", (3, 4)), r"size of its image, \(4, 3\)"),
        (MASK + 1, IMAGE, "from 0 to 2, or 255 to ignore.*3"),
        (-MASK, IMAGE, "from 0 to 2, or 255 to ignore.*-1"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(mask, image, message):
    with pytest.raises(TargetError, match=message):
        Masks(255).read(mask, image, 3)


@pytest.mark.parametrize("image", [IMAGE, IMAGE.numpy(), Image.new("RGB", (3, 2))])
def test_a_flip_and_a_resize_move_mask_and_image_alike(image):
    chain = Steps(v2.RandomHorizontalFlip(p=1), v2.ToImage(), v2.Resize((4, 6)))
    given = torch.arange(6).reshape(2, 3)
    moved, mask = Masks(255).transform(chain, image, given)
    assert tuple(moved.shape) == (3, 4, 6)
    assert mask.equal(given.flip(1).repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert type(mask) is type(moved) is torch.Tensor


def test_a_flip_moves_the_pixels_of_the_image_with_those_of_the_mask():
    image = torch.rand(3, 8, 8)
    mask = (10 * image[0]).long()
    chain = Steps(v2.RandomVerticalFlip(p=1), v2.RandomCrop(5), v2.RandomHorizontalFlip(p=0.5))
    moved, target = Masks(255).transform(chain, image, mask)
    assert target.equal((10 * moved[0]).long())
    assert not target.equal(mask[:5, :5])


def test_the_labels_of_a_mask_stay_when_an_image_becomes_floating_point():
    chain = Steps(v2.ToImage(), v2.ConvertImageDtype(), v2.Normalize([0.5] * 3, [0.5] * 3))
    image, mask = Masks(255).transform(chain, Image.new("RGB", (3, 2)), MASK)
    assert image.equal(torch.full((3, 2, 3), -1.0))
    assert mask.equal(MASK)
    assert mask.dtype == torch.int64


def test_a_mask_that_a_transform_interpolates_is_refused():
    chain = Steps(lambda image, mask: (image, mask / 2))
    image, mask = Masks(255).transform(chain, IMAGE, MASK)
    with pytest.raises(TargetError, match=r"whole numbers.*float32"):
        Masks(255).read(mask, image, 3)


def test_pixels_that_a_transform_adds_are_ignored():
    chain = Steps(v2.Pad(1))
    _, mask = Masks(255).transform(chain, IMAGE, MASK)
    assert mask[1:-1, 1:-1].equal(MASK)
    assert set(mask[0].tolist()) == {255}


def test_boxes_move_with_the_image_and_those_outside_are_removed():
    chain = Steps(v2.Pad(2), v2.RandomHorizontalFlip(p=1), v2.CenterCrop((8, 8)))
    given = boxes(
        [0.0, 1.0, 2.0, 4.0], [6.0, 2.0, 8.0, 4.0], [0.0, 0.0, 1.0, 1.0], labels=[1, 2, 3]
    )
    image = torch.zeros(3, 8, 12)
    image[:, 1:4, 0:2], image[:, 2:4, 6:8] = 1, 2
    moved, target = Boxes().transform(chain, image, given)
    assert target["labels"].tolist() == [2]
    x1, y1, x2, y2 = target["boxes"].int()[0].tolist()
    assert (moved[:, y1:y2, x1:x2] == 2).all()
    assert moved[:, y1:y2, x1:x2].shape[1:] == (2, 2)
    assert all(type(value) is torch.Tensor for value in target.values())


@pytest.mark.parametrize(
    "given",
    [
        boxes([1.0, 2.0, 3.0, 4.0]),
        {"boxes": [[1, 2, 3, 4]], "labels": [1], "area": 4},
        {"boxes": np.array([[1, 2, 3, 4]]), "labels": np.array([1])},
        {
            "boxes": tv_tensors.BoundingBoxes([[1, 2, 2, 2]], format="XYWH", canvas_size=(9, 9)),
            "labels": [1],
        },
    ],
)
def test_boxes_are_read_as_corners(given):
    read = Boxes().read(given, IMAGE, 3)
    assert read["boxes"].equal(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert read["labels"].equal(torch.tensor([1]))


def test_an_image_may_have_no_boxes():
    read = Boxes().read({"boxes": [], "labels": []}, IMAGE, 3)
    assert read["boxes"].shape == (0, 4)
    assert read["labels"].dtype == torch.int64
    moved = Boxes().transform(v2.RandomHorizontalFlip(p=1), IMAGE, read)[1]
    assert moved["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "mapping with boxes and labels.*int"),
        ({"annotation": 1}, "mapping with boxes and labels.*'annotation'"),
        (boxes([1.0, 2.0, 3.0]), r"\(n, 4\).*\(1, 3\)"),
        (boxes([3.0, 2.0, 3.0, 4.0]), r"x1 < x2.*\[3.0, 2.0, 3.0, 4.0\]"),
        (boxes([1.0, 2.0, float("nan"), 4.0]), "x1 < x2.*nan"),
        (boxes([1.0, 2.0, 3.0, 4.0], labels=[1, 2]), r"each of 1 boxes.*\(2,\) int64"),
        (boxes([1.0, 2.0, 3.0, 4.0], labels=[1.5]), "each of 1 boxes.*float32"),
        (boxes([1.0, 2.0, 3.0, 4.0], labels=[3]), r"from 1 to 2 \(0 is the background\).*3"),
        (boxes([1.0, 2.0, 3.0, 4.0], labels=[0]), r"from 1 to 2 \(0 is the background\).*0"),
    ],
)
def test_what_is_no_mapping_of_boxes_is_refused(target, message):
    with pytest.raises(TargetError, match=message):
        Boxes().read(target, IMAGE, 3)


def test_without_a_background_labels_are_from_0():
    given = boxes([1.0, 2.0, 3.0, 4.0], labels=[0])
    assert Boxes(background=False).read(given, IMAGE, 3)["labels"].tolist() == [0]


class ImageAlone(nn.Module):
    def forward(self, image):
        return image


@pytest.mark.parametrize("step", [ToTensor(), ImageAlone(), lambda image: image])
def test_a_transform_of_the_image_alone_is_refused(step):
    with pytest.raises(TargetError, match=r"must take and give both.*which takes the image alone"):
        Masks(255).transform(Steps(step), IMAGE, MASK)


def test_a_transform_of_ones_own_sees_the_labels_as_they_are():
    seen = []

    def step(image, mask):
        seen.append(mask.clone())
        return image, mask.flip(1)

    image, mask = Masks(255).transform(Steps(step), IMAGE, MASK)
    assert torch.equal(seen[0], MASK)
    assert mask.equal(MASK.flip(1))
    assert image.equal(IMAGE)


def test_the_labels_that_count():
    assert CLASS_NUMBERS.labels(3).tolist() == [3]
    assert Masks(255).labels(MASK).tolist() == [0, 1, 2, 2, 0]
    assert Boxes().labels(boxes([1.0, 2.0, 3.0, 4.0])).tolist() == [1]


def test_items_of_different_sizes_become_lists():
    items = [(IMAGE, "a"), (IMAGE[:, :1], "b")]
    assert lists(items) == [[IMAGE, items[1][0]], ["a", "b"]]
