"""Splits in memory of images with cells or boxes, and a detector for them."""

import numpy as np
import torch

from latentood.detectors.base import Detector, Needs
from latentood.latents import Latents
from latentood.latents.facts import SplitFacts
from latentood.latents.rows import InMemory
from latentood.latents.splits import SplitsInMemory
from latentood.plugins import hyper, plugin

ROWS, COLUMNS, SIDE = 3, 4, 4
"""The grid of cells, and pixels along a side of a cell."""


@plugin
class First(Detector):
    """The first logit, on a scale that float16 cannot hold."""

    name = "first"
    family = paper = works = fails = cost = "test"
    width: float = hyper(1.0, "scale", above=0)

    def needs(self):
        return Needs(score=("logits",))

    def score(self, state, rows):
        return 1e6 + self.width * rows.double("logits")[:, 0]


def latents(name, **arrays):
    given = {key.replace("__", "."): InMemory(torch.as_tensor(one)) for key, one in arrays.items()}
    return Latents.from_rows(given, name=name)


def splits(roles, make):
    """Give splits of some roles, each with a seed of its own."""
    made = {name: make(name, role, seed) for seed, (name, role) in enumerate(roles.items())}
    return SplitsInMemory(made, {name: SplitFacts(role) for name, role in roles.items()})


def cells(name, role, seed, images=11):
    """Scores that are higher where pixels are OOD; every second image of a mixed split has some."""
    draw = np.random.default_rng(seed)
    ood = np.full((images, ROWS, COLUMNS), role in ("near", "far"), dtype=np.uint8)
    if role == "mixed":
        ood[1::2, 1:, 2:] = 1
    masks = ood.repeat(SIDE, axis=1).repeat(SIDE, axis=2)
    masks[:, :, 0] = 255
    place = np.stack(np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij"), -1)
    logits = draw.normal(size=(images, ROWS * COLUMNS, 2)).astype(np.float32)
    logits[..., 0] += ood.reshape(images, -1)
    return latents(
        name,
        ood=ood.reshape(images, -1).max(axis=1),
        masks=masks,
        cells__count=np.full(images, ROWS * COLUMNS),
        cells__place=np.broadcast_to(place.reshape(1, -1, 2), (images, ROWS * COLUMNS, 2)).copy(),
        cells__ood=ood.reshape(images, -1),
        cells__logits=logits,
    )


def boxes(name, role, seed, images=20, most=4):
    """One object for each box, near it; the third of an image is unknown, the last is none."""
    draw = np.random.default_rng(seed)
    count = draw.integers(0, most + 1, images)
    count[0] = most
    corner = draw.integers(0, 40, (images, most, 2))
    size = draw.integers(6, 20, (images, most, 2))
    objects = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
    state = np.zeros((images, most), np.uint8)
    state[:, 2] = role == "mixed"
    state[:, 3] = 255
    there = np.arange(most) < count[:, None]
    logits = draw.normal(size=(images, most, 3)).astype(np.float32)
    logits[..., 0] += state == 1
    labels = np.where(state == 255, -1, 1 + np.arange(most) % 2)
    of_objects = {
        "boxes__ood": state,
        "objects__count": np.minimum(count, 3),
        "objects__xyxy": objects,
        "objects__labels": np.abs(labels),
        "objects__ood": state,
    }
    return latents(
        name,
        ood=(state * there == 1).any(axis=1).astype(np.uint8),
        boxes__count=count,
        boxes__xyxy=(objects + draw.normal(size=objects.shape) * 0.3).astype(np.float32)
        * there[..., None],
        boxes__confidence=draw.random((images, most)).astype(np.float32) * there,
        boxes__predictions=1 + draw.integers(0, 2, (images, most)),
        boxes__labels=labels,
        boxes__logits=logits,
        **({} if role in ("fit", "val") else of_objects),
    )


CELLS = {"train": "fit", "id_test": "id", "street": "mixed", "textures": "far"}
BOXES = {"train": "fit", "id_test": "id", "street": "mixed"}


def cell_splits():
    return splits(CELLS, cells)


def box_splits(**roles):
    return splits(roles or BOXES, boxes)
