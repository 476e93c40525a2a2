"""Pictures: what is drawn, where, and in which colour."""

import numpy as np
import pytest
from matplotlib import colormaps

from latentood.evaluation.members.boxes import Objects
from latentood.report.pictures import box_picture, grey, limits_of, map_picture

TITLE = ("knn · layer", "street (mixed): $x$")
MASK = np.array([[0, 0, 0, 255], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=np.uint8)
SCORES = np.arange(12.0).reshape(3, 4)


def texts(figure):
    return [one.get_text() for one in figure.findobj(lambda part: hasattr(part, "get_text"))]


def test_a_map_alone_has_the_scores_and_leaves_ignored_pixels_out():
    figure = map_picture(SCORES, MASK, (0.0, 11.0), TITLE)
    panel = figure.axes[0]
    (drawn,) = panel.images
    np.testing.assert_array_equal(drawn.get_array().mask, MASK == 255)
    np.testing.assert_array_equal(drawn.get_array().data[MASK != 255], SCORES[MASK != 255])
    assert (drawn.get_clim(), drawn.get_cmap().name) == ((0.0, 11.0), "viridis")
    assert "outlined: OOD   not coloured: ignored" in texts(figure)
    assert "score (higher = more OOD)" in texts(figure)
    assert "knn · layer\nstreet (mixed): \\$x\\$" in texts(figure)


def test_the_outline_is_the_border_of_ood_pixels():
    panel = map_picture(SCORES, MASK, (0.0, 11.0), TITLE).axes[0]
    segments = {
        tuple(map(tuple, np.sort(one, axis=0))) for one in panel.collections[-1].get_segments()
    }
    border = {
        ((0.5, 0.5), (0.5, 1.5)), ((0.5, 0.5), (1.5, 0.5)), ((1.5, 0.5), (2.5, 0.5)),
        ((2.5, 0.5), (2.5, 1.5)), ((2.5, 1.5), (2.5, 2.5)), ((1.5, 2.5), (2.5, 2.5)),
        ((1.5, 1.5), (1.5, 2.5)), ((0.5, 1.5), (1.5, 1.5)),
    }  # fmt: skip
    assert segments == border


def test_an_image_stands_beside_the_map_and_below_it():
    image = np.linspace(0, 1, 12).reshape(3, 4)
    figure = map_picture(SCORES, np.zeros((3, 4), np.uint8), (0.0, 11.0), TITLE, image)
    left, right = figure.axes[:2]
    assert [len(left.images), len(right.images)] == [1, 2]
    for panel in (left, right):
        np.testing.assert_array_equal(panel.images[0].get_array(), image)
    assert 0 < right.images[1].get_alpha() < 1
    assert "nothing is OOD here" in texts(figure)


def test_boxes_have_the_colours_of_their_scores_and_objects_are_dashed():
    xyxy = np.array([[2.0, 3, 10, 12], [20, 5, 30, 25]])
    objects = Objects([[1, 3, 9, 11], [19, 5, 30, 26], [0, 0, 4, 4]], [1, 1, 1], [0, 1, 1])
    figure = box_picture(xyxy, np.array([0.0, 3.0]), objects, (0.0, 4.0), TITLE)
    patches = figure.axes[0].patches
    solid, dashed = (
        patches[:2],
        [one for one in patches if one.get_linestyle() not in ("-", "solid")],
    )
    for patch, share, (left, top, right, bottom) in zip(solid, (0.0, 0.75), xyxy, strict=True):
        assert patch.get_edgecolor() == pytest.approx(colormaps["viridis"](share))
        assert patch.get_xy() == (left - 0.5, top - 0.5)  # pixel 0 is around 0
        assert (patch.get_width(), patch.get_height()) == (right - left, bottom - top)
    assert len(dashed) == 3
    assert dashed[1].get_edgecolor() == dashed[2].get_edgecolor() != dashed[0].get_edgecolor()
    assert {"0", "3", "true known object", "true unknown object"} <= set(texts(figure))
    assert figure.axes[0].get_ylim() == (25.5, -0.5)  # rows go down, as in images


def test_no_box_and_no_object_is_a_picture_too():
    image = np.zeros((8, 9))
    figure = box_picture(np.zeros((0, 4)), np.zeros(0), None, (0.0, 1.0), TITLE, image)
    assert "no boxes" in texts(figure)
    assert not figure.axes[0].patches
    box_picture(np.zeros((0, 4)), np.zeros(0), None, (0.0, 1.0), TITLE)


def test_an_input_of_any_range_becomes_grey():
    image = np.random.default_rng(0).normal(size=(3, 20, 20)) * 7 + 100
    shown = grey(image)
    assert (shown.shape, shown.min(), shown.max()) == ((20, 20), 0.0, 1.0)
    inner = (shown > 0) & (shown < 1)
    assert np.corrcoef(shown[inner], image.mean(axis=0)[inner])[0, 1] > 0.999
    assert (grey(np.full((1, 4, 4), 3.0)) == 0).all()
    assert grey(np.eye(4)).shape == (4, 4)


def test_the_ends_of_the_colours_are_quantiles_and_never_equal():
    assert limits_of(np.arange(101.0)) == (1.0, 99.0)
    low, high = limits_of(np.full(5, 2.0))
    assert low < 2.0 < high
