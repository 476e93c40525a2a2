"""A data set and networks that train in milliseconds."""

import torch
from torch import nn
from torch.utils.data import Dataset


class Points(Dataset):
    """Points of three clouds in four dimensions; ``labelled=False`` gives far ones."""

    def __init__(self, rows=48, seed=0, classes=3, labelled=True, scale=1.0, noise=False):
        generator = torch.Generator().manual_seed(seed)
        self.targets = [row % classes for row in range(rows)]
        means = 3 * torch.eye(4)[:classes]
        self.points = means[self.targets] + torch.randn(rows, 4, generator=generator)
        self.points = self.points * scale + (0 if labelled else 20)
        self.labelled, self.noise = labelled, noise

    def __len__(self):
        return len(self.points)

    def __getitem__(self, row):
        point = self.points[row]
        if self.noise:  # as a random transform
            point = point + 0.1 * torch.randn(4)
        return (point, self.targets[row]) if self.labelled else point


class Jitter:
    """A random transform."""

    def __call__(self, point):
        return point + 0.1 * torch.randn(point.shape)


class Mlp(nn.Module):
    """Two layers with batch norm and dropout."""

    def __init__(self, classes=3, softmax=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.fc = nn.Linear(16, classes)
        self.softmax = softmax

    def forward(self, points):
        logits = self.fc(self.body(points))
        return logits.softmax(dim=1) if self.softmax else logits
