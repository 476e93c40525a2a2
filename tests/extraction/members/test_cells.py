import numpy as np
import pytest
import torch

from latentood.errors import DataError
from latentood.extraction.members.cells import CellTargets
from latentood.extraction.model.grid import Grid
from latentood.extraction.passes.noise import row_keys
from latentood.pipeline.members import Ood

KEYS = row_keys(0, torch.arange(4))
IDS = list("abcd")


def targets(role, *, sample=None, labelled=True, **ood):
    return CellTargets("s", role, Ood(**ood), Grid(3, 4), 6, 8, 3, sample, labelled)


def masks(seed=0, values=(0, 1, 2, 254, 255)):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.choice(values, (4, 6, 8)))


def slow(mask, role, marked=(254,), ignored=(255,)):
    """Read one mask pixel by pixel, and cell by cell."""
    of_role = 1 if role in ("near", "far", "tune") else 0

    def state(label):
        return 255 if label in ignored else 1 if label in marked or label > 2 else of_role

    pixels = [[state(label) for label in row] for row in mask.tolist()]
    labels, states = [], []
    for top in range(0, 6, 2):
        for left in range(0, 8, 2):
            inside = mask[top : top + 2, left : left + 2].flatten().tolist()
            codes = [3 if one in ignored else 4 if one > 2 else one for one in inside]
            most = min(codes, key=lambda one: (-codes.count(one), one))
            labels.append(most if most < 3 else -1)
            states.append({3: 255, 4: 1}.get(most, of_role))
    return pixels, labels, states


@pytest.mark.parametrize("role", ["id", "near", "far", "tune", "mixed"])
def test_pixels_cells_and_images_are_what_a_loop_over_pixels_says(role):
    given = masks()
    chosen, arrays = targets(role, mask_values=[254]).read(given, KEYS, IDS)
    assert chosen.there.all()
    for image in range(4):
        pixels, labels, states = slow(given[image], role)
        assert arrays["masks"][image].tolist() == pixels
        assert arrays["cells.labels"][image].tolist() == labels
        assert arrays["cells.ood"][image].tolist() == states
        flat = np.ravel(pixels)
        assert arrays["ood"][image] == (1 if 1 in flat else 0 if 0 in flat else 255)
    assert arrays["cells.count"].tolist() == [12] * 4
    assert arrays["cells.place"][0, 5].tolist() == [1, 1]


@pytest.mark.parametrize("sample", [None, 3])
def test_fit_splits_keep_cells_of_classes_alone(sample):
    given = masks()
    one = targets("fit", sample=sample, mask_values=[254])
    _, arrays = one.read(given, KEYS, IDS)
    assert set(arrays) == {"cells.count", "cells.place", "cells.labels"}
    for image in range(4):
        _, labels, states = slow(given[image], "fit")
        known = {cell for cell in range(12) if states[cell] == 0}
        count = int(arrays["cells.count"][image])
        kept = [y * 4 + x for y, x in arrays["cells.place"][image, :count].tolist()]
        assert set(kept) <= known
        assert count == min(len(known), sample or 12)
        assert arrays["cells.labels"][image, :count].tolist() == [labels[cell] for cell in kept]


@pytest.mark.parametrize(("role", "state"), [("id", 0), ("near", 1), ("far", 1), ("tune", 1)])
def test_without_masks_the_role_says_what_pixels_are(role, state):
    _, arrays = targets(role, labelled=False).read(torch.full((4,), -1), KEYS, IDS)
    assert "cells.labels" not in arrays
    assert arrays["masks"].unique().tolist() == [state]
    assert arrays["cells.ood"].unique().tolist() == [state]
    assert arrays["ood"].tolist() == [state] * 4


def test_a_mixed_split_without_masks_is_refused():
    with pytest.raises(DataError, match="split 's': items of a split of role mixed must have mask"):
        targets("mixed", labelled=False)


def test_an_image_that_is_ignored_as_a_whole_is_never_counted():
    given = torch.full((4, 6, 8), 255)
    _, arrays = targets("mixed").read(given, KEYS, IDS)
    assert arrays["ood"].tolist() == [255] * 4
    _, arrays = targets("fit").read(given, KEYS, IDS)
    assert arrays["cells.count"].tolist() == [0] * 4
