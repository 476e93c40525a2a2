"""Scenes of digits, with masks and boxes."""

import numpy as np
import pytest
import torch

from latentood.data import Digits, DigitScenes
from latentood.data.photos import photos
from latentood.data.scenes.digits import IGNORED
from latentood.data.targets import Boxes, Masks
from latentood.errors import ConfigError, UnknownName

KNOWN = [3, 1, 4]
PARTS = ("train", "val", "test")


def masks_of(**options):
    return torch.stack([mask for _, mask in DigitScenes(20, KNOWN, **options)])


def test_a_scene_is_in_the_range_of_a_model_and_its_targets_are_those_of_training():
    for size in (32, 64, 96):
        image, mask = DigitScenes(2, KNOWN, size=size)[1]
        assert (image.shape, image.dtype) == ((3, size, size), torch.float32)
        assert image.min() >= -1
        assert image.max() <= 1
        assert torch.equal(Masks(IGNORED).read(mask, image, 1 + len(KNOWN)), mask)
        again, target = DigitScenes(2, KNOWN, size=size, targets="boxes")[1]
        assert torch.equal(image, again)
        read = Boxes().read(target, image, 1 + len(KNOWN))
        assert all(torch.equal(read[key], value) for key, value in target.items())


def test_an_item_is_a_function_of_seed_part_and_row():
    scenes, more = DigitScenes(5, KNOWN), DigitScenes(9, KNOWN)
    assert all(torch.equal(scenes[row][0], more[row][0]) for row in (4, 0, 2))
    assert not torch.equal(scenes[0][0], scenes[1][0])
    for other in (DigitScenes(5, KNOWN, seed=1), DigitScenes(5, KNOWN, part="test")):
        assert not torch.equal(scenes[0][0], other[0][0])
        assert not torch.equal(scenes[0][1], other[0][1])


def test_boxes_are_the_smallest_around_the_pixels_of_a_digit():
    with_boxes = DigitScenes(20, KNOWN, [8], targets="boxes")
    for row, (_, mask) in enumerate(DigitScenes(20, KNOWN, [8])):
        rest = mask.clone()
        rest[rest == IGNORED] = 0
        target = with_boxes[row][1]
        for (x1, y1, x2, y2), label in zip(target["boxes"].int(), target["labels"], strict=True):
            inside = rest[y1:y2, x1:x2]
            assert set(inside.unique().tolist()) == {0, int(label)}
            edges = inside[0], inside[-1], inside[:, 0], inside[:, -1]
            assert all((edge == label).any() for edge in edges)
            inside[:] = 0
        assert not rest.any()


def test_digits_stand_out_from_the_photograph_and_their_edge_is_ignored():
    for image, mask in DigitScenes(20, KNOWN):
        digit, edge = (mask > 0) & (mask < IGNORED), mask == IGNORED
        brightness = [float(image[:, one].mean()) for one in (mask == 0, edge, digit)]
        assert brightness == sorted(brightness)
        assert image[:, mask == 0].max() < image[:, digit].mean()
        assert edge.any()


def test_labels_are_places_in_the_list_of_known_digits_and_one_for_all_unknown_ones():
    assert masks_of().unique().tolist() == [0, 1, 2, 3, IGNORED]
    assert masks_of(unknown=[8, 9]).unique().tolist() == [0, 1, 2, 3, 254, IGNORED]
    assert masks_of(unknown=[8], share=1.0, unknown_label=4).unique().tolist() == [0, 4, IGNORED]
    assert masks_of(unknown=[8], share=0.0).unique().tolist() == [0, 1, 2, 3, IGNORED]


def test_the_share_is_that_of_unknown_digits_and_pictures_hold_both_kinds():
    scenes = DigitScenes(300, KNOWN, [8, 9], share=0.3, targets="boxes")
    labels = [target["labels"] for _, target in scenes]
    everything = torch.cat(labels)
    # about 650 digits: four standard errors are 0.07
    assert float((everything == 254).float().mean()) == pytest.approx(0.3, abs=0.07)
    assert sum(bool((one == 254).any() and (one < 254).any()) for one in labels) > 60


def test_a_scene_of_four_fields_holds_one_to_four_digits():
    counts = [len(target["labels"]) for _, target in DigitScenes(100, KNOWN, targets="boxes")]
    assert set(counts) == {1, 2, 3, 4}


def test_parts_are_drawn_apart():
    train, test = (DigitScenes(50, KNOWN, part=part, targets="boxes") for part in ("train", "test"))
    counts = [[len(target["labels"]) for _, target in scenes] for scenes in (train, test)]
    assert counts[0] != counts[1]


def test_parts_are_those_of_the_digits_whatever_the_seed():
    for seed, part in enumerate(PARTS):
        scenes = DigitScenes(1, KNOWN, [8], part=part, seed=seed)
        assert scenes.known.ids == Digits(KNOWN, part).ids
        assert scenes.unknown.ids == Digits([8], part).ids


def test_parts_show_different_places_of_the_photographs(monkeypatch):
    columns = np.broadcast_to(np.arange(640) / 320 - 1, (3, 427, 640))
    monkeypatch.setattr("latentood.data.scenes.digits.photos", lambda grey: (columns,))
    seen = {}
    for part in PARTS:
        shown = [image[:, mask == 0] for image, mask in DigitScenes(40, KNOWN, part=part, size=32)]
        seen[part] = (torch.cat(shown, dim=1) * 2 + 2) * 320
    # what is behind traces of ink is brighter, so only most of the pixels are below the end
    ends = {part: [float(one.min()), float(one.quantile(0.95))] for part, one in seen.items()}
    assert ends["train"][1] < 384
    assert 384 <= ends["val"][0] < ends["val"][1] < 480
    assert 480 <= ends["test"][0] < ends["test"][1] < 640


def test_backgrounds_are_the_photographs_at_half_their_brightness():
    image, mask = DigitScenes(1, KNOWN, size=32)[0]
    pixels = 2 * image[:, mask == 0].T[:5].double() + 1
    everywhere = np.concatenate([photo.reshape(3, -1).T for photo in photos(grey=False)])
    nearest = [np.abs(everywhere - pixel.numpy()).max(axis=1).min() for pixel in pixels]
    assert np.min(nearest) < 1e-6


@pytest.mark.parametrize("options", [{"length": -1}, {"share": 1.5}, {"size": 48}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="length and seed must be ≥ 0, share from 0 to 1 and"):
        DigitScenes(**{"length": 1, "known": KNOWN, **options})


def test_digits_that_are_known_and_unknown_are_refused():
    with pytest.raises(ConfigError, match=r"no digit in common, got \[1, 4\] in both; remove them"):
        DigitScenes(1, KNOWN, [4, 1])


@pytest.mark.parametrize("label", [3, 255])
def test_a_label_of_unknown_digits_that_means_something_else_is_refused(label):
    with pytest.raises(ConfigError, match=f"above 3, the largest label .* got {label}; 254 is"):
        DigitScenes(1, KNOWN, [8], unknown_label=label)


def test_unknown_parts_and_targets_suggest_the_nearest():
    with pytest.raises(UnknownName, match="no part of DigitScenes named 'all'; did you mean 'val'"):
        DigitScenes(1, KNOWN, part="all")
    with pytest.raises(UnknownName, match="no kind of targets of DigitScenes named 'box'; did"):
        DigitScenes(1, KNOWN, targets="box")


def test_rows_outside_end_a_loop():
    with pytest.raises(IndexError, match="no scene 2 of 2"):
        DigitScenes(2, KNOWN)[2]
