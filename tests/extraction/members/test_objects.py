import pytest
import torch
from torchvision.ops import box_iou

from latentood.errors import DataError
from latentood.extraction.members.objects import BoxTargets
from latentood.extraction.passes.noise import row_keys
from latentood.pipeline.members import Ood

KEYS = row_keys(0, torch.arange(3))
IDS = ["a", "b", "c"]
BOXES = torch.tensor(
    [
        [[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [0, 0, 0, 0]],
        [[0, 0, 9, 10], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0]] * 4,
    ]
)
FOUND = {"boxes.xyxy": BOXES, "boxes.count": torch.tensor([3, 1, 0])}
OBJECTS = [
    {
        "boxes": torch.tensor([[1.0, 0, 10, 10], [20, 20, 31, 30], [20, 20, 22, 22]]),
        "labels": torch.tensor([1, 9, 2]),
    },
    {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([255])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def targets(role, *, labelled=True, most=4, **ood):
    return BoxTargets("s", role, Ood(**{"labels": [9], **ood}), most, labelled)


@pytest.mark.parametrize(
    ("role", "ood"),
    [
        ("mixed", [[0, 1, 255, 0], [255, 0, 0, 0], [0] * 4]),
        ("id", [[0, 255, 255, 0], [255, 0, 0, 0], [0] * 4]),
        ("near", [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4]),
        ("tune", [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4]),
    ],
)
def test_a_box_is_what_the_object_is_that_it_overlaps_most(role, ood):
    chosen, arrays = targets(role).boxes(FOUND, OBJECTS, KEYS)
    assert arrays["boxes.ood"].tolist() == ood
    assert arrays["boxes.labels"].tolist() == [[1, 9, -1, 0], [255, 0, 0, 0], [0] * 4]
    assert arrays["boxes.count"].tolist() == [3, 1, 0]
    assert chosen.there.sum() == 4


def test_a_box_that_overlaps_too_little_is_of_no_object():
    overlap = float(box_iou(BOXES[0, :1], OBJECTS[0]["boxes"][:1]))
    for iou, state in ((overlap - 0.01, 0), (overlap + 0.01, 255)):
        _, arrays = targets("mixed", iou=iou).boxes(FOUND, OBJECTS, KEYS)
        assert arrays["boxes.ood"][0, 0] == state


def test_fit_splits_keep_boxes_of_known_objects_alone():
    chosen, arrays = targets("fit").boxes(FOUND, OBJECTS, KEYS)
    assert set(arrays) == {"boxes.count", "boxes.labels"}
    assert arrays["boxes.count"].tolist() == [1, 0, 0]
    assert arrays["boxes.labels"][0].tolist() == [1, 0, 0, 0]
    kept = chosen.take(BOXES)
    assert kept[0, 0].equal(BOXES[0, 0])
    assert not kept[0, 1:].any()
    assert not kept[1:].any()


@pytest.mark.parametrize(("role", "state"), [("id", 0), ("far", 1)])
def test_without_targets_the_role_says_what_boxes_are(role, state):
    one = targets(role, labelled=False)
    _, arrays = one.boxes(FOUND, [-1] * 3, KEYS)
    assert arrays["boxes.ood"].tolist() == [[state] * 3 + [0], [state, 0, 0, 0], [0] * 4]
    assert one.read([-1] * 3, KEYS, IDS)[1]["ood"].tolist() == [state] * 3


def test_objects_are_kept_beside_the_boxes():
    _, arrays = targets("mixed").read(OBJECTS, KEYS, IDS)
    assert arrays["objects.count"].tolist() == [3, 1, 0]
    assert arrays["objects.ood"].tolist() == [[0, 1, 0, 0], [255, 0, 0, 0], [0] * 4]
    assert arrays["objects.xyxy"][0, :3].equal(OBJECTS[0]["boxes"])
    assert arrays["ood"].tolist() == [1, 255, 0]


def test_more_objects_than_can_be_kept_are_an_error_that_names_the_image():
    with pytest.raises(DataError, match=r"at most boxes\.max true objects, 2, got 3 in a; raise"):
        targets("mixed", most=2).read(OBJECTS, KEYS, IDS)


def test_a_mixed_split_without_boxes_is_refused():
    with pytest.raises(DataError, match="split 's': items of a split of role mixed must have box"):
        targets("mixed", labelled=False)
