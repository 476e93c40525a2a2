"""Small data sets to derive others from."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

COLOURS = torch.randint(0, 256, (6, 3, 8, 12), generator=torch.Generator().manual_seed(0)).byte()
LABELS = [0, 1, 2, 0, 1, 2]


class Pictures:
    """Six images (3, 8, 12) of three classes, as tensors, PIL images or mappings.

    ``reads`` counts the items that were read.
    """

    def __init__(self, form="tensor", images=COLOURS, labels=LABELS, listed=True):
        self.form = form
        self.images_ = images
        self.labels_ = labels
        self.reads = 0
        if listed:
            self.targets = labels

    def __len__(self):
        return len(self.images_)

    def __getitem__(self, row):
        self.reads += 1
        image = self.images_[row]
        if self.form == "pil":
            image = Image.fromarray(image.permute(1, 2, 0).numpy())
        if self.labels_ is None:
            return image
        if self.form == "mapping":
            return {"picture": image, "kind": self.labels_[row], "where": "here"}
        return image, self.labels_[row]


def as_tensor(image):
    if isinstance(image, Image.Image):
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)
    return image


def image_folder(root: Path, classes=("cats", "dogs"), each=3, size=4) -> Path:
    """A folder of images, one sub-folder a class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.full((size, size, 3), 60 * i + 20 * number, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root
