import numpy as np
import pytest
import torch

from latentood.errors import DataError
from latentood.evaluation.truth import Truth, image_scores
from latentood.latents import Latents
from latentood.latents.rows import InMemory


def latents(**arrays):
    given = {key.replace("_", "."): InMemory(torch.as_tensor(v)) for key, v in arrays.items()}
    return Latents.from_rows(given, name="street")


BOXES = {"boxes_count": [2, 0, 1], "boxes_ood": [[0, 1], [9, 9], [255, 9]]}


def test_members_say_themselves_what_they_are():
    truth = Truth.of(latents(**BOXES), "mixed", "box")
    assert truth.ood.tolist() == [0, 1, 255]
    assert truth.image.tolist() == [0, 0, 2]
    assert (truth.images, truth.pixels) == (3, None)
    assert truth.has(0)
    assert truth.has(1)


@pytest.mark.parametrize(("role", "state"), [("id", 0), ("near", 1), ("far", 1)])
def test_without_ood_the_role_says_what_rows_are(role, state):
    truth = Truth.of(latents(logits=torch.zeros(4, 2)), role, "image")
    assert truth.ood.tolist() == [state] * 4
    assert truth.image.tolist() == [0, 1, 2, 3]
    assert truth.has(state)
    assert not truth.has(1 - state)


def test_rows_of_a_mixed_split_must_say_what_they_are():
    with pytest.raises(DataError, match="street: rows of a split of role mixed must have ood"):
        Truth.of(latents(logits=torch.zeros(4, 2)), "mixed", "image")


def test_pixels_of_all_images_are_looked_at():
    masks = torch.zeros(20, 4, 6, dtype=torch.uint8)
    place = torch.cartesian_prod(torch.arange(2), torch.arange(3)).expand(20, -1, -1)
    rows = {"cells_count": [6] * 20, "cells_place": place, "cells_ood": torch.zeros(20, 6)}
    truth = Truth.of(latents(masks=masks, **rows), "mixed", "cell")
    assert (truth.pixels.rows, truth.pixels.columns) == (2, 3)
    assert not truth.has(1)
    masks[19, 3, 5] = 1
    assert Truth.of(latents(masks=masks, **rows), "mixed", "cell").has(1)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("max", [9.0, -2.0, 5.0]), ("mean", [19 / 4, -2.0, 5.0]), ("top3", [6.0, -2.0, 5.0])],
)
def test_scores_of_members_become_one_of_their_image(how, expected):
    image = np.array([0, 0, 0, 0, 2])
    truth = Truth("box", np.zeros(5, dtype=np.uint8), image, 3)
    scores = np.array([1.0, 9.0, 3.0, 6.0, 5.0])
    lowest = np.array([1.0, 9.0, 3.0, 6.0, -2.0])
    got = image_scores(scores, truth, how)
    assert got[[0, 2]] == pytest.approx([expected[0], 5.0])
    assert got[1] == 1.0  # an image without members has the lowest score of all
    assert image_scores(lowest, truth, how)[1] == -2.0


def test_no_members_at_all_are_an_error():
    truth = Truth("box", np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64), 3)
    with pytest.raises(DataError, match="at least one image must have a member"):
        image_scores(np.zeros(0), truth, "max")
