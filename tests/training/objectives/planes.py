"""Three clouds in the plane, points far from them, and a network that is trained in a moment."""

import torch
from torch import Tensor, nn

from latentood.testing.blobs import auroc
from latentood.training.network import Network
from latentood.training.objectives import Moment, Objective

MEANS = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])


def clouds(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (N, 2) and their classes."""
    labels = torch.arange(rows) % 3
    draw = torch.Generator().manual_seed(seed)
    return MEANS[labels] + 0.5 * torch.randn(rows, 2, generator=draw), labels


def ring(rows: int, seed: int) -> Tensor:
    """Points (N, 2) all around the clouds."""
    angles = 2 * torch.pi * torch.rand(rows, generator=torch.Generator().manual_seed(seed))
    return 5 * torch.stack([angles.cos(), angles.sin()], dim=1)


class Bumps(nn.Module):
    """A bump around each point of a grid: (N, 2) → (N, 81), near 0 far from all of them."""

    def __init__(self) -> None:
        super().__init__()
        axis = torch.linspace(-4, 4, 9)
        self.centres = torch.cartesian_prod(axis, axis)

    def forward(self, points: Tensor) -> Tensor:
        return (-torch.cdist(points, self.centres).square()).exp()


def trained(objective: Objective, *, bias: float | None = None, steps: int = 60) -> Network:
    """A linear layer behind the bumps, trained on full batches; ``bias`` is what it starts as."""
    torch.manual_seed(0)
    linear = nn.Linear(81, 3, bias=bias is not None)
    if bias is not None:
        nn.init.constant_(linear.bias, bias)
    network = Network(nn.Sequential(Bumps(), linear), objective, classes=3)
    inputs, labels = clouds(90, 0)
    outliers = ring(60, 1) if objective.reads_outliers else None
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for step in range(steps):
        optimiser.zero_grad()
        others = None if outliers is None else network(outliers)
        moment = Moment(step / 6, step / steps)
        network.loss(network(inputs), labels, moment, outliers=others).backward()
        optimiser.step()
    return network


def quality(network: Network) -> tuple[float, float]:
    """Accuracy on new points of the clouds, and the AUROC of the own uncertainty of far ones."""
    inputs, labels = clouds(150, 2)
    probability, uncertainty = network.predict(inputs)
    _, far = network.predict(ring(100, 3))
    accuracy = (probability.argmax(dim=1) == labels).double().mean()
    return float(accuracy), auroc(uncertainty, far)
