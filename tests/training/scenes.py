"""Scenes of coloured squares with masks or boxes, and networks that learn them in seconds."""

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator

IGNORED = 255


class Scenes(Dataset):
    """Squares of classes 1 and 2, red and green, on noise; ``change`` spoils the target of row 3.

    The boundary of the image is ignored in masks. Images of boxes differ in size.
    """

    def __init__(self, kind="masks", rows=12, seed=0, classes=(1, 2), change=None, size=16):
        generator = torch.Generator().manual_seed(seed)
        self.items = []
        for row in range(rows):
            height, width = (size, size) if kind == "masks" else (size, size + 4 * (row % 2))
            label = classes[row % len(classes)]
            top, left = torch.randint(1, size // 2, (2,), generator=generator).tolist()
            side = size // 2 - 1
            image = 0.1 * torch.rand(3, height, width, generator=generator)
            image[label - 1, top : top + side, left : left + side] += 0.9
            if kind == "masks":
                target = torch.zeros(height, width, dtype=torch.uint8)
                target[top : top + side, left : left + side] = label
                target[0] = IGNORED
            else:
                box = [left, top, left + side, top + side]
                target = {"boxes": torch.tensor([box]).float(), "labels": torch.tensor([label])}
            self.items.append((image, target))
        if change:
            image, target = self.items[3]
            self.items[3] = image, {**target, **change} if isinstance(change, dict) else change

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class BadMask(Scenes):
    """A label of a pixel, or the size of a mask, is wrong in row 3."""

    def __init__(self, label=None, size=None, **options):
        super().__init__(**options)
        image, mask = self.items[3]
        mask = mask[:size].clone()
        if label is not None:
            mask[5, 5] = label
        self.items[3] = image, mask


class Segmenter(nn.Module):
    """Two layers with batch norm and dropout."""

    def __init__(self, classes=3, softmax=False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.1)
        )
        self.head = nn.Conv2d(8, classes, 1)
        self.softmax = softmax

    def forward(self, images):
        logits = self.head(self.body(images))
        return {"out": logits.softmax(dim=1) if self.softmax else logits}


def detector(classes=3):
    """A detector of torchvision with a backbone of three layers."""
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU(),
    )  # fmt: skip
    backbone.out_channels = 16
    return FasterRCNN(
        backbone, classes,
        rpn_anchor_generator=AnchorGenerator(((14, 28),), ((1.0,),)),
        min_size=64, max_size=96, image_mean=[0.0] * 3, image_std=[1.0] * 3,
        rpn_pre_nms_top_n_train=50, rpn_post_nms_top_n_train=20,
        rpn_pre_nms_top_n_test=50, rpn_post_nms_top_n_test=20, box_batch_size_per_image=32,
    )  # fmt: skip


class Silent(nn.Module):
    """A detector that gives no detections."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images, targets=None):
        return {"loss": self.weight.sum()} if self.training else None


class Brighter:
    """A transform of one's own of an image and its target."""

    def __call__(self, image, target):
        return image + 1, target
