"""Three clouds in a plane, and a network that learns to tell them apart in well under a second."""

import torch
from torch import nn

from latentood.training.network import Network
from latentood.training.objectives import Batch, Moment

CENTRES = torch.tensor([[3.0, 0.0], [-1.5, 2.6], [-1.5, -2.6]])


def clouds(rows=150, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    return CENTRES[labels] + 0.5 * torch.randn(rows, 2, generator=generator), labels


def far(rows=150, seed=9):
    """Points between the clouds and points around them."""
    generator = torch.Generator().manual_seed(seed)
    directions = nn.functional.normalize(torch.randn(rows, 2, generator=generator), dim=1)
    radii = torch.where(torch.arange(rows) % 2 == 0, 0.5, 8.0)
    return directions * radii.unsqueeze(1)


def trained(objective, *, steps=150, outliers=None, seed=0):
    torch.manual_seed(seed)
    classifier = nn.Sequential(
        nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    network = Network(classifier, objective, classes=3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    batch = Batch(*clouds(), outliers)
    for step in range(steps):
        optimiser.zero_grad()
        loss, _ = network.batch_loss(batch, Moment(step, step / steps))
        loss.backward()
        optimiser.step()
    return network


def accuracy(network):
    points, labels = clouds(seed=1)
    probability, _ = network.predict(points)
    return float((probability.argmax(dim=1) == labels).float().mean())


def separation(network, points=None):
    """AUROC of the network's own uncertainty: far points against new ones of the clouds."""
    _, known = network.predict(clouds(seed=1)[0])
    _, unknown = network.predict(far(seed=2) if points is None else points)
    return float((unknown[:, None] > known).float().mean())
