"""Small networks with one peculiarity each."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Module):
    """Two convolutions, mean pooling, a head; the plainest classifier."""

    def __init__(self, classes: int = 4, channels: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = self.conv2(x)
        return self.fc(x.mean(dim=(2, 3)))


class ReluTail(Conv):
    """An activation between the last convolution and the pooling: pooling alone is not the tail."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        return self.fc(F.relu(self.conv2(x)).mean(dim=(2, 3)))


class OwnDropout(Conv):
    """A skip connection around dropout of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.drop1 = nn.Dropout(0.3)
        self.drop2 = nn.Dropout2d(0.3)
        self.alpha = nn.AlphaDropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = x + self.drop2(self.conv2(self.drop1(x)))
        return self.fc(self.alpha(x.mean(dim=(2, 3))))


class Branching(OwnDropout):
    """Control flow that depends on values, which vmap cannot run."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop1(self.conv1(x))
        if float(x.sum()) > 1e9:
            x = x * 0
        return self.fc(self.conv2(x).mean(dim=(2, 3)))


class FunctionalDropout(OwnDropout):
    """Dropout called as a function inside forward, beside a dropout module."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = F.dropout2d(self.conv2(self.drop1(x)), 0.3, self.training)
        return self.fc(F.dropout(x.mean(dim=(2, 3)), p=0.2, training=self.training))


class CalledTwice(Conv):
    """One activation module used in two places, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.conv2(self.act(self.conv1(x)))).mean(dim=(2, 3)))


class DictOutput(Conv):
    """Returns its logits in a mapping."""

    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "aux": x}


class Loud(Conv):
    """Features beyond half precision, and logits of ordinary size."""

    def __init__(self) -> None:
        super().__init__()
        self.fc.weight.data.mul_(1e-7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(F.relu(self.bn(self.conv1(x))))
        return self.fc(1e7 * x.mean(dim=(2, 3)))


class Staged(nn.Module):
    """Stages that can be compiled by themselves, in containers that are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()) for _ in range(3)
        )
        self.drop = nn.Dropout2d(0.3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.stem(x))
        x = self.stages[1](self.drop(x))
        return self.fc(self.stages[2](x).mean(dim=(2, 3)))


class NoHead(nn.Module):
    """Gives logits by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(dim=(2, 3))


def inputs(rows: int = 5, size: int = 8, seed: int = 0) -> Tensor:
    """Random images (rows, 3, size, size)."""
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(seed))


class Images:
    """A data set of random images with labels, and what can be wrong with one."""

    def __init__(
        self, rows: int = 10, classes: int = 4, labelled: bool = True, broken_row: int = -1,
        nan_row: int = -1, label_shift: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.images = inputs(rows, seed=seed)
        if nan_row >= 0:
            self.images[nan_row] = torch.nan
        self.labels = (torch.arange(rows) % classes + label_shift).tolist()
        self.labelled = labelled
        self.broken_row = broken_row

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        if row == self.broken_row:
            raise OSError("cannot identify image file")
        return (self.images[row], self.labels[row]) if self.labelled else self.images[row]
