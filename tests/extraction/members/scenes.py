"""Small images with masks or boxes, networks for them with drawn weights, and their caches."""

from collections import OrderedDict

import torch
from torch import nn
from torch.utils.data import Dataset

from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.store.cache import open_cache

UNKNOWN = 254


def extract(folder, wanted, **options):
    """Run the extraction of a pipeline, and open its cache."""
    run(prepare(wanted, **options), folder)
    return open_cache(folder)


class Masked(Dataset):
    """Noise, and masks in squares of 3 pixels: classes 0 to 2, unknown ones where wanted."""

    def __init__(self, rows=6, size=24, unknown=False, ignored=True, masks=True, bad=None, width=0):
        generator = torch.Generator().manual_seed(rows)
        self.images = torch.randn(rows, 3, size, size + width, generator=generator)
        shape = rows, size // 3, (size + width) // 3
        labels = torch.randint(0, 3, shape, generator=generator)
        if unknown:
            labels[1::2, 1:3, 1:3] = UNKNOWN
        self.masks = labels.repeat_interleave(3, 1).repeat_interleave(3, 2).to(torch.uint8)
        if ignored:
            self.masks[:, -2:] = 255
        if bad is not None:
            self.masks[2, 0, 0] = bad
        self.labelled = masks

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return (self.images[row], self.masks[row]) if self.labelled else self.images[row]


class Boxed(Dataset):
    """Noise with bright squares of 8 pixels; labels 1 and 2, and ``unknown`` for every third."""

    def __init__(self, rows=6, size=32, unknown=None, targets=True, bright=True, wider=False):
        generator = torch.Generator().manual_seed(rows)
        self.items = []
        for row in range(rows):
            width = size + 8 * (row % 2) * wider
            image = 0.1 * torch.randn(3, size, width, generator=generator)
            boxes, labels = [], []
            for number in range(row % 3 if bright else 0):
                top, left = torch.randint(0, size - 8, (2,), generator=generator).tolist()
                label = unknown if unknown and number == 1 else 1 + number % 2
                image[label % 3, top : top + 8, left : left + 8] += 2
                boxes.append([left, top, left + 8, top + 8])
                labels.append(label)
            target = {
                "boxes": torch.tensor(boxes).float().reshape(-1, 4),
                "labels": torch.tensor(labels, dtype=torch.int64),
            }
            self.items.append((image, target) if targets else image)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Segmenter(nn.Module):
    """Two stages, dropout, and a head of 1×1 whose logits are enlarged to the image."""

    def __init__(self, classes=3, enlarged=True, mapping=False):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(6, 8, 3, 4, padding=1), nn.ReLU())
        self.dropout = nn.Dropout2d(0.3)
        self.head = nn.Conv2d(8, classes, 1)
        self.enlarged, self.mapping = enlarged, mapping

    def forward(self, images):
        logits = self.head(self.dropout(self.stage2(self.stage1(images))))
        if self.enlarged:
            size = images.shape[-2:]
            logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        return OrderedDict(out=logits) if self.mapping else logits


class FullSize(nn.Module):
    """Logits of every pixel by a convolution of 1×1."""

    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(5, classes, 1)

    def forward(self, images):
        return self.head(self.body(images))
