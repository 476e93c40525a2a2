"""Pictures of an image with its scores: a map of pixels, or boxes.

Pure functions from arrays to figures, as those of :mod:`latentood.report.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentood.evaluation.members.boxes import Objects
from latentood.evaluation.metrics import Array
from latentood.report.plots import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_COLOURS = "viridis"  # perceptually uniform, and distinct with any colour vision
_VEIL = 0.7  # how much a map covers of the image below it
_BELOW = (-0.5, 1.5)  # range of grey there: without black and white, which would change its colours
_WIDTH = 4.6  # of a panel, in inches
_OOD, _IGNORED = 1, 255
_OBJECTS: Mapping[int, tuple[str, str]] = {
    0: ("#FFFFFF", "true known object"),
    1: ("#FF4FD8", "true unknown object"),
    255: ("#BBBBBB", "true object, ignored"),
}
"""State of an object → its colour, none of the map's, and its name."""

Limits = tuple[float, float]
"""The scores at the ends of the colour bar, the same in all pictures of a detector and split."""


def map_picture(
    scores: Array,
    mask: NDArray[Any],
    limits: Limits,
    title: Sequence[str],
    image: Array | None = None,
) -> Figure:
    """Draw the scores of pixels in colour, over the image in grey, with the outline of what is OOD.

    Args:
        scores: (H, W), higher = more OOD.
        mask: (H, W) 0 ID, 1 OOD, 255 ignored; the last are not coloured.
        limits: Scores of the first and the last colour.
        title: The lines above.
        image: (H, W) in [0, 1]; it is also shown alone, on the left.
    """
    height, width = mask.shape
    figure, panels = _canvas(height / width, 1 if image is None else 2, title)
    if image is not None:
        for axes, (dark, light) in zip(panels, ((0, 1), _BELOW), strict=True):
            axes.imshow(image, cmap="gray", vmin=dark, vmax=light, interpolation="nearest")
    shown = np.ma.masked_where(mask == _IGNORED, scores)
    panels[-1].imshow(
        shown, cmap=_COLOURS, vmin=limits[0], vmax=limits[1],
        alpha=1.0 if image is None else _VEIL, interpolation="nearest",
    )  # fmt: skip
    for axes in panels:
        _outline(axes, mask == _OOD)
    _colour_bar(figure, panels, limits)
    notes = ["outlined: OOD"] if (mask == _OOD).any() else ["nothing is OOD here"]
    notes += ["not coloured: ignored"] * bool((mask == _IGNORED).any())
    panels[-1].set_xlabel("   ".join(notes), fontsize=8)
    return figure


def box_picture(
    xyxy: Array,
    scores: Array,
    objects: Objects | None,
    limits: Limits,
    title: Sequence[str],
    image: Array | None = None,
) -> Figure:
    """Draw boxes coloured by their scores, and the true objects dashed.

    Args:
        xyxy: (M, 4) corners of the boxes of an image, in pixels.
        scores: (M,), higher = more OOD.
        objects: The true objects, where they are known.
        limits: As above.
        title: The lines above.
        image: (H, W) in [0, 1].
    """
    there = [xyxy] if objects is None else [xyxy, objects.xyxy]
    height, width = _size(np.concatenate(there)) if image is None else image.shape
    figure, (axes,) = _canvas(height / width, 1, title)
    axes.set_facecolor("#555555")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_aspect("equal")
    if image is not None:
        axes.imshow(0.75 * image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    colours = _colour_bar(figure, [axes], limits)
    for corners, score in zip(xyxy, scores, strict=True):
        colour = colours.to_rgba(score)
        _rectangle(axes, corners, colour, linewidth=2.4)
        axes.annotate(
            f"{score:.3g}", (corners[0], corners[1]), color=_text_colour(colour), fontsize=7,
            xytext=(0, 1), textcoords="offset points", va="bottom", annotation_clip=False,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    if objects is not None:
        _draw_objects(axes, objects)
    if not len(xyxy):
        axes.set_xlabel("no boxes", fontsize=8)
    return figure


def grey(image: NDArray[Any]) -> Array:
    """Turn an input (C, H, W) or (H, W), in whatever range, into a grey image (H, W) in [0, 1].

    The mean of its channels, from its 1% to its 99% quantile: transforms may have shifted it.
    """
    values = np.asarray(image, dtype=np.float64)
    flat = values.mean(axis=0) if values.ndim == 3 else values
    low, high = np.quantile(flat, (0.01, 0.99))
    result: Array = np.clip((flat - low) / (high - low or 1.0), 0, 1)
    return result


def limits_of(scores: Array) -> Limits:
    """Choose the ends of the colour bar: the 1% and the 99% quantile of all scores of a split."""
    low, high = np.quantile(scores, (0.01, 0.99)).tolist()
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _canvas(ratio: float, panels: int, title: Sequence[str]) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    size = panels * _WIDTH + 0.8, max(_WIDTH * ratio, 1.2) + 0.7
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    figure.suptitle("\n".join(map(plain, title)), fontsize=9, x=0.01, ha="left")
    every = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in every:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor("#BBBBBB")
    return figure, every


def _colour_bar(figure: Figure, panels: list[Axes], limits: Limits) -> ScalarMappable:
    """Draw what the colours mean, and give them."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(*limits), _COLOURS)
    bar = figure.colorbar(colours, ax=panels, extend="both", shrink=0.9, pad=0.02)
    bar.set_label("score (higher = more OOD)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return colours


def _outline(axes: Axes, inside: NDArray[np.bool_]) -> None:
    """Draw the border of pixels along their edges, black and white so that it shows anywhere."""
    from matplotlib.collections import LineCollection

    height, width = inside.shape
    padded = np.pad(inside, 1)
    across, down = padded[1:, 1:] != padded[:-1, 1:], padded[1:, 1:] != padded[1:, :-1]
    lines = [
        ((x - 0.5, y - 0.5), (x - 0.5 + right, y + 0.5 - right))
        for edges, right in ((across[:, :width], 1), (down[:height], 0))
        for y, x in np.argwhere(edges).tolist()
    ]
    for colour, thickness in (("black", 2.6), ("white", 1.2)):
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=thickness, capstyle="round")
        )


def _draw_objects(axes: Axes, objects: Objects) -> None:
    from matplotlib.lines import Line2D

    for corners, state in zip(objects.xyxy, objects.ood, strict=True):
        _rectangle(axes, corners, "black", linewidth=1.6)
        _rectangle(axes, corners, _OBJECTS[int(state)][0], linewidth=1.2, linestyle=(0, (4, 3)))
    entries = [
        Line2D([], [], color=colour, linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        for state, (colour, name) in _OBJECTS.items()
        if (objects.ood == state).any()
    ]
    if entries:
        axes.legend(
            handles=entries, loc="upper left", bbox_to_anchor=(0, -0.01), ncols=3, fontsize=7,
            facecolor="#555555", labelcolor="white", framealpha=1, borderaxespad=0,
        )  # fmt: skip


def _rectangle(axes: Axes, corners: Array, colour: Any, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = corners.tolist()
    axes.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            **style,
        )
    )


def _size(xyxy: Array) -> tuple[float, float]:
    """Give a height and a width that hold all boxes."""
    right, bottom = xyxy[:, 2:].max(axis=0, initial=1.0).tolist()
    return bottom, right


def _text_colour(colour: Any) -> str:
    """Choose black or white, whichever is farther from a colour."""
    red, green, blue, _ = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
