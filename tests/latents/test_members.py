import copy

import pytest
import torch

from latentood.errors import DataError, MissingInput
from latentood.latents import Latents
from latentood.latents.members import Layout, MemberRows
from latentood.latents.rows import InMemory

COUNT = torch.tensor([2, 0, 3, 1, 0])


class Counting(InMemory):
    """Rows that remember which were read."""

    def __init__(self, tensor):
        super().__init__(tensor)
        self.reads = []

    def read(self, start, stop):
        self.reads.append((start, stop))
        return super().read(start, stop)


def rows(**more):
    values = torch.randn(5, 3, 4)
    arrays = {
        "boxes.features/a": values,
        "boxes.count": COUNT,
        "boxes.labels": torch.arange(15).reshape(5, 3),
        "features/a": torch.randn(5, 4),
        "hashes": torch.arange(5),
        **more,
    }
    head = torch.randn(2, 4), torch.zeros(2)
    given = {key: InMemory(array) for key, array in arrays.items()}
    return Latents.from_rows(given, head=head, name="street"), values


def test_members_are_the_first_of_every_image_as_rows_of_their_own():
    latents, values = rows()
    members = latents.members("box")
    expected = torch.cat([values[image, :count] for image, count in enumerate(COUNT.tolist())])
    assert len(members) == 6
    assert members.unit == "box"
    assert members["features/a"].equal(expected)
    assert members["labels"].tolist() == [0, 1, 6, 7, 8, 9]
    assert set(members.keys()) == {"features/a", "labels", "hashes", "head"}
    assert members.origin != latents.origin
    assert latents.members("image") is latents


@pytest.mark.parametrize("start", range(7))
@pytest.mark.parametrize("stop", range(7))
def test_any_range_of_members_can_be_read(start, stop):
    latents, _ = rows()
    members = latents.members("box")
    for key in ("features/a", "hashes"):
        assert members.read(key, start, stop).equal(members[key][start:stop])


def test_rows_that_are_read_in_order_are_read_once():
    array = Counting(torch.randn(5, 3, 2))
    members = MemberRows(array, Layout(torch.tensor([3, 3, 3, 3, 3])))
    for start in range(0, 15, 2):
        members.read(start, start + 2)
    assert array.reads == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_chunks_views_and_copies_keep_the_unit():
    members = rows()[0].members("box")
    assert members.take(["features/a"], 0, 2).unit == "box"
    assert next(members.chunks(["features/a"])).unit == "box"
    assert members.to("cpu").unit == "box"
    assert copy.copy(members).unit == "box"


def test_members_of_equal_images_at_the_same_place_have_equal_hashes_and_no_others():
    place = torch.tensor([[[0, 0], [0, 1], [1, 0]]]).expand(5, -1, -1)
    arrays = {
        "cells.place": InMemory(place),
        "cells.count": InMemory(torch.full((5,), 3)),
        "hashes": InMemory(torch.tensor([7, 8, 7, 9, 10])),
    }
    hashes = Latents.from_rows(arrays).members("cell")["hashes"].reshape(5, 3)
    assert hashes[0].equal(hashes[2])
    assert len(set(hashes[[0, 1, 3, 4]].flatten().tolist())) == 12


def test_a_unit_that_is_not_there_is_missing():
    with pytest.raises(MissingInput, match=r"unit cell: needs 'cells\.count', but street has"):
        rows()[0].members("cell")


def test_no_member_anywhere_is_an_error_that_names_the_split():
    latents, _ = rows(**{"boxes.count": torch.zeros(5, dtype=torch.int64)})
    with pytest.raises(DataError, match="at least one image must have a box, got none in 5"):
        latents.members("box")


def test_an_array_of_another_number_of_images_is_refused():
    with pytest.raises(DataError, match="same number of rows"):
        rows(**{"boxes.labels": torch.zeros(4, 3)})
