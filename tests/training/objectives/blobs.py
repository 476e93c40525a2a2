"""Three clouds of points in the plane, rows far from them, and a short training."""

import torch
from sklearn.metrics import roc_auc_score

from latentood.training.network import Network


def blobs(rows: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (rows, 2) and their classes."""
    labels = torch.arange(rows) % 3
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.8], [-1.0, -1.8]])
    return means[labels] + 0.4 * torch.randn(rows, 2), labels


def far_rows(rows: int = 100, distance: float = 20.0) -> torch.Tensor:
    """Points on a circle about the clouds."""
    angle = torch.linspace(0, 2 * torch.pi, rows)
    return distance * torch.stack([angle.cos(), angle.sin()], dim=1)


def train(
    network: Network, inputs: torch.Tensor, labels: torch.Tensor, *, steps: int, rate: float
) -> tuple[float, float]:
    """Train by Adam on batches of 100; give the first and the last loss."""
    optimiser = torch.optim.Adam(network.parameters(), rate)
    losses = []
    network.train()
    for _ in range(steps):
        batch = torch.randperm(len(inputs))[:100]
        loss = network.loss(network(inputs[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def accuracy_and_auroc(
    network: Network, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[float, float]:
    """Accuracy, and how well the network's own uncertainty separates far rows from the points."""
    probability, certain = network.predict(inputs)
    _, far = network.predict(far_rows())
    is_far = torch.cat([torch.zeros(len(certain)), torch.ones(len(far))])
    accuracy = (probability.argmax(dim=1) == labels).float().mean().item()
    return accuracy, float(roc_auc_score(is_far, torch.cat([certain, far])))
